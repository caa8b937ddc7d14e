package parse

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes make a process the first of a group of its own, which ends with this process.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limitData bounds what the process may write to in memory, and forbids it to write files or leave a core.
func limitData(limit uint64) {
	for what, n := range map[int]uint64{unix.RLIMIT_DATA: limit + limit/2, unix.RLIMIT_FSIZE: 0, unix.RLIMIT_CORE: 0} {
		_ = unix.Setrlimit(what, &unix.Rlimit{Cur: n, Max: n}) // where it can't be had, watch sees it later
	}
}
