package spool

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData syncs a file's content and size, but not its timestamps, to the disk.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
