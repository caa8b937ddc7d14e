package spool

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData brings a file's content and size to the disk, and leaves its times to the kernel.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
