package parse

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes puts the process into a process group of its own, and ends it with this process.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limitData limits the process's data memory, and forbids it to write files and core dumps.
func limitData(limit uint64) {
	for what, n := range map[int]uint64{unix.RLIMIT_DATA: limit + limit/2, unix.RLIMIT_FSIZE: 0, unix.RLIMIT_CORE: 0} {
		_ = unix.Setrlimit(what, &unix.Rlimit{Cur: n, Max: n}) // where it can't be had, watch sees it later
	}
}
