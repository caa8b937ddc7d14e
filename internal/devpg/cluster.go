package devpg

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/konstruct/konstruct/migrations"
)

// Database is the name of the cluster's database.
const Database = "konstruct"

const superuser = "postgres"

// Cluster is a running private PostgreSQL.
type Cluster struct {
	dir      string
	port     int
	password string
	cmd      *exec.Cmd
	exited   chan struct{}
	exitErr  error
}

// Start starts the cluster in dir/pg, and creates it if it does not exist. A cluster whose server was killed recovers
// by PostgreSQL's crash recovery. settings, as name=value, override the defaults. For a cluster that another major
// version created the error is a *VersionError: FindFor finds the right installation.
func Start(ctx context.Context, in Installation, dir string, settings ...string) (*Cluster, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	attr, chown, err := unprivileged()
	if err != nil {
		return nil, err
	}
	root, err := home(dir)
	if err != nil {
		return nil, err
	}
	// The unprivileged user may pass through the folder, to reach its own part of it.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	if err := chown(root); err != nil {
		return nil, err
	}
	created, err := createdBy(root)
	if err != nil {
		return nil, err
	}
	if created != 0 && created != in.Version { // it would stop at once, and say why in its own log alone
		return nil, &VersionError{Folder: root, Created: created, Installed: []Installation{in}}
	}
	c := &Cluster{dir: root, exited: make(chan struct{})}
	if c.password, err = c.secret(); err != nil {
		return nil, err
	}
	if created == 0 {
		if err := c.initdb(ctx, in, attr, chown); err != nil {
			return nil, err
		}
	}
	if err := c.previous(ctx); err != nil {
		return nil, err
	}
	if c.port, err = freePort(); err != nil {
		return nil, err
	}
	if err := c.serve(in, attr, settings); err != nil {
		return nil, err
	}
	if err := c.ready(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	if err := c.prepare(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// Running returns the cluster that another process runs in dir, or nil. Stop does not stop it.
func Running(ctx context.Context, dir string) (*Cluster, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	if c.dir, err = home(dir); err != nil {
		return nil, err
	}
	var ready bool
	if c.port, ready = c.postmaster(); !ready {
		return nil, nil
	}
	if c.password, err = c.secret(); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, c.URL(superuser, "postgres"))
	if err != nil { // another process has the number now, or it is going down
		return nil, nil
	}
	return c, conn.Close(ctx)
}

// postmaster reads postmaster.pid: the process on line 1, its port on line 4, "ready" on line 8. The port is 0 if no
// such process is alive.
func (c *Cluster) postmaster() (port int, ready bool) {
	raw, err := os.ReadFile(filepath.Join(c.dir, "data", "postmaster.pid"))
	lines := strings.Split(string(raw), "\n")
	if err != nil || len(lines) < 4 {
		return 0, false
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil {
		return 0, false
	}
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return 0, false // left behind by one that was killed
	}
	port, err = strconv.Atoi(lines[3])
	return port, err == nil && len(lines) >= 8 && strings.TrimSpace(lines[7]) == "ready"
}

// previous waits for a server that is shutting down, because the process that started it has ended.
func (c *Cluster) previous(ctx context.Context) error {
	for range 200 {
		port, ready := c.postmaster()
		if port == 0 {
			return nil
		}
		if ready {
			if conn, err := pgx.Connect(ctx, (&Cluster{dir: c.dir, port: port, password: c.password}).
				URL(superuser, "postgres")); err == nil {
				return errors.Join(fmt.Errorf("a private PostgreSQL runs in %s already", c.dir), conn.Close(ctx))
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil // the number is another process's by now; PostgreSQL itself has the last word
}

// Exists reports whether a data folder has a cluster, there or by a link: see home.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "pg"))
	return !errors.Is(err, fs.ErrNotExist)
}

// home is the cluster's own folder: pg in the data folder. Below a folder that only root may enter, as
// /root is, the unprivileged user could not reach it; there it stands beside the parts, and a link in the
// data folder says where.
func home(dir string) (string, error) {
	here := filepath.Join(dir, "pg")
	if os.Geteuid() != 0 {
		return here, nil
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		if st, err := os.Stat(parent); err == nil && st.Mode()&0o001 == 0 {
			break
		}
		if parent == filepath.Dir(parent) {
			return here, nil
		}
	}
	elsewhere := filepath.Join(AssetsDir(), "clusters", fmt.Sprintf("%x", sha256.Sum256([]byte(dir)))[:16])
	if err := errors.Join(os.MkdirAll(elsewhere, 0o711), os.MkdirAll(dir, 0o711)); err != nil {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	if err := os.Symlink(elsewhere, here); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	return elsewhere, nil
}

// secret reads the cluster's password, and generates it on first use.
func (c *Cluster) secret() (string, error) {
	path := filepath.Join(c.dir, "password")
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	s := rand.Text()
	return s, os.WriteFile(path, []byte(s+"\n"), 0o600)
}

func (c *Cluster) initdb(ctx context.Context, in Installation, attr *syscall.SysProcAttr,
	chown func(string) error) error {
	pw := filepath.Join(c.dir, "password.initdb")
	if err := os.WriteFile(pw, []byte(c.password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(pw)
	if err := chown(pw); err != nil {
		return err
	}
	half := filepath.Join(c.dir, "data.new")
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(in.Bin, "initdb"), "-D", half, "-U", superuser, "--pwfile", pw,
		"-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8", "--no-instructions")
	attr2 := *attr
	cmd.SysProcAttr, cmd.Dir = &attr2, c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return os.Rename(half, filepath.Join(c.dir, "data"))
}

func (c *Cluster) serve(in Installation, attr *syscall.SysProcAttr, settings []string) error {
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c.cmd = exec.Command(filepath.Join(in.Bin, "postgres"), "-D", filepath.Join(c.dir, "data"), "-p",
		strconv.Itoa(c.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "password_encryption=scram-sha-256",
		"-c", "shared_buffers=256MB", "-c", "max_connections=200")
	for _, s := range settings {
		c.cmd.Args = append(c.cmd.Args, "-c", s)
	}
	attr2 := *attr
	attr2.Pdeathsig = syscall.SIGINT // a fast shutdown when whoever started it is gone
	attr2.Setpgid = true             // a terminal's ^C reaches us, and we stop it
	c.cmd.SysProcAttr, c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = &attr2, c.dir, log, log
	started := make(chan error)
	go func() {
		// Linux sends Pdeathsig when the starting thread ends, so that thread is kept until the server has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.exitErr = c.cmd.Wait()
			close(c.exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	return nil
}

// ready waits until the server accepts connections, after crash recovery if necessary.
func (c *Cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.URL(superuser, "postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-c.exited:
			return fmt.Errorf("postgres stopped at once (%v): see %s", c.exitErr, filepath.Join(c.dir, "log"))
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w: see %s", err, filepath.Join(c.dir, "log"))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// prepare creates roles, extension and database; steps that are already done are skipped.
func (c *Cluster) prepare(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.URL(superuser, "template1"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, role := range migrations.Roles() {
		var there bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role.Name).
			Scan(&there); err != nil {
			return err
		}
		sql := role.Create(c.password) // letters and digits of our own drawing
		if there {
			sql = role.Alter(c.password)
		}
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make role %s: %w", role.Name, err)
		}
	}
	// In template1, so that every database created here has it: only a superuser may install it.
	if _, err := conn.Exec(ctx, `CREATE EXTENSION IF NOT EXISTS vector`); err != nil {
		return err
	}
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, Database).
		Scan(&there); err != nil || there {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE DATABASE `+Database+` OWNER konstruct_owner`)
	return err
}

// URL returns the connection URL of a role on a database of the cluster.
func (c *Cluster) URL(role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, c.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)), Path: "/" + database}
	return u.String()
}

// SuperuserURL returns the superuser's URL on the given database.
func (c *Cluster) SuperuserURL(database string) string { return c.URL(superuser, database) }

// PID returns the server's process id.
func (c *Cluster) PID() int { return c.cmd.Process.Pid }

// Exited returns a channel that is closed when the server has stopped, whoever stopped it.
func (c *Cluster) Exited() <-chan struct{} { return c.exited }

// Stop stops the server by fast shutdown, and by immediate shutdown after ten seconds.
func (c *Cluster) Stop() {
	if c.cmd == nil {
		return // another process's
	}
	_ = c.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-c.exited:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Signal(syscall.SIGQUIT)
		<-c.exited
	}
}

// unprivileged returns how to start PostgreSQL, which refuses to run as root, and how to give it files.
func unprivileged() (*syscall.SysProcAttr, func(string) error, error) {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}, func(string) error { return nil }, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 != nil || err2 != nil {
			continue
		}
		attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return attr, func(path string) error { return os.Chown(path, uid, gid) }, nil
	}
	return nil, nil, errors.New("running as root, and no user postgres or nobody to run PostgreSQL as")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Kill ends the server and all its processes with SIGKILL, for tests of crash recovery.
func (c *Cluster) Kill() {
	pid := c.cmd.Process.Pid
	_ = c.cmd.Process.Signal(syscall.SIGSTOP) // it starts no more of them
	// without such a file, they notice by themselves
	list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	children := strings.Fields(string(list))
	for _, child := range children {
		if n, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	_ = c.cmd.Process.Kill()
	<-c.exited
	for _, child := range children { // one that is not gone yet would hold the shared memory
		for range 500 {
			if stat, err := os.ReadFile("/proc/" + child + "/stat"); err != nil ||
				bytes.Contains(stat, []byte(") Z ")) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
