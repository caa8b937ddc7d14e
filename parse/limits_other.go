//go:build !linux

package parse

import "syscall"

// attributes puts the process into a process group of its own; it ends when its input does.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// limitData does nothing on this system: only watch enforces the limit.
func limitData(uint64) {}
