//go:build unix

package main

import "syscall"

// noCore has the system write no core file of this process: its memory has keys in it.
func noCore() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
