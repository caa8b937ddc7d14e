package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// defaultEnvFile is read where it is in the working folder and no other is named.
const defaultEnvFile = "konstruct.env"

// readEnvFile reads the file that konstruct init writes: the one that is named, or konstruct.env in the working
// folder. Where another configuration file is named the working folder is not looked at, so that URLs of two
// databases are not mixed by accident.
func readEnvFile(args []string, configured bool, known map[string]bool) (values map[string]string, path string,
	err error) {
	path = namedFile(args, "--env-file", "KONSTRUCT_ENV_FILE")
	if path == "" {
		if path = defaultEnvFile; configured {
			return nil, "", nil
		}
		// An empty one holds no secret, and a shell makes one before the command that fills it.
		if st, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() == 0 {
			return nil, "", nil
		}
	}
	raw, err := readPrivateFile(path)
	if err != nil {
		return nil, path, fmt.Errorf("env file: %w", err)
	}
	values, err = parseSettings(path, raw, known)
	return values, path, err
}

// namedFile is the value of a flag that is read before the others are, or of its environment variable.
func namedFile(args []string, flag, env string) string {
	path := os.Getenv(env)
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if v, ok := strings.CutPrefix(arg, flag+"="); ok {
			path = v
		} else if arg == flag && i+1 < len(args) {
			path = args[i+1]
		}
	}
	return path
}

// readPrivateFile reads a file of secrets: of this user, and readable by nobody else.
func readPrivateFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: konstruct init writes it", err)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat() // of the open file, not of what is at the path by now
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxConfig {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxConfig)
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if ok && int(owner.Uid) != os.Geteuid() && owner.Uid != 0 {
		return nil,
			fmt.Errorf("%s belongs to user %d, not to you (%d): it is not read, because whoever owns it chooses "+
				"the database", path, owner.Uid, os.Geteuid())
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds passwords and others can read or write it: chmod 600 %s", path, path)
	}
	return io.ReadAll(f)
}

// needsNoEnvFile reports whether a command goes on where the env file can't be read: it writes it, or has no use
// for it.
func needsNoEnvFile(command string) bool {
	name, _, _ := strings.Cut(command, " ")
	return slices.Contains([]string{"init", "version", "verify", "completion", "man", "mcp-proxy"}, name)
}

// fromEnvFile tells a user who can't connect which file the connection URLs are from.
func (a *app) fromEnvFile(code int) string {
	if a.envFile == "" || code != exitNoDB {
		return ""
	}
	return "; the connection URLs are those of " + a.envFile
}
