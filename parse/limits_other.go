//go:build !linux

package parse

import "syscall"

// attributes make a process the first of a group of its own; it ends when its input does.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// limitData has nothing to offer here: watch alone holds the process to its memory.
func limitData(uint64) {}
