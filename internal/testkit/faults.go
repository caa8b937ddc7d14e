package testkit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// SmallDisk mounts a tmpfs of so many bytes and returns its folder. It skips the test unless it runs as root.
func SmallDisk(t testing.TB, bytes int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a small disk must be mounted, which only root can")
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0711", bytes)); err != nil {
		t.Fatalf("mount a disk of %d bytes: %v", bytes, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Fill fills the disk that holds dir, except for leave bytes. empty frees the space again.
func Fill(t testing.TB, dir string, leave int64) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for { // other processes write meanwhile
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		n := int64(st.Bavail)*st.Bsize - leave
		if n <= 0 {
			return func() { _ = os.Remove(path) }
		}
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err == nil {
			return func() { _ = os.Remove(path) }
		} else if err != syscall.ENOSPC {
			t.Fatal(err)
		}
	}
}

// SlowDisk delays every fsync of a process, and of the processes that it starts from now on, until fast is called.
func SlowDisk(t testing.TB, pid int, by time.Duration) (fast func()) {
	t.Helper()
	bin, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("no strace on this machine: make setup brings it")
	}
	var said bytes.Buffer
	cmd := exec.Command(bin, "-f", "-q", "-p", fmt.Sprint(pid), "-o", os.DevNull,
		"-e", "trace=fsync,fdatasync", "-e", fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", by.Microseconds()))
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	status := fmt.Sprintf("/proc/%d/status", pid)
	for range 200 { // until strace is attached
		raw, err := os.ReadFile(status)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(raw, []byte("TracerPid:\t0\n")) {
			stopped := false
			return func() {
				if !stopped {
					stopped = true
					_ = cmd.Process.Signal(syscall.SIGINT)
					_ = cmd.Wait()
				}
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	t.Fatalf("strace does not hold process %d: %s", pid, said.String())
	return nil
}

// FakeClock gives the processes that this test starts from now on a fake clock. step moves it: "-1h", "+1d", "+0".
func FakeClock(t testing.TB) (step func(string)) {
	t.Helper()
	libs, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if len(libs) == 0 {
		t.Fatal("no libfaketime on this machine: make setup brings it")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "clock")
	for _, p := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(p, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	step = func(to string) {
		if err := os.WriteFile(path+".new", []byte(to+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	step("+0")
	setenv := t.(interface{ Setenv(key, value string) }).Setenv
	setenv("LD_PRELOAD", libs[0])
	setenv("FAKETIME_TIMESTAMP_FILE", path)
	setenv("FAKETIME_NO_CACHE", "1")
	setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
	return step
}
