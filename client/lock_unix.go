//go:build unix

package client

import (
	"errors"
	"os"
	"syscall"
)

// errLocked is returned if another process has the lock.
var errLocked = errors.New("another process has it")

// lockFile locks an open file for this process; the kernel releases it when the process ends, however it ends.
func lockFile(f *os.File, wait bool) error {
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		}
		return err
	}
}
