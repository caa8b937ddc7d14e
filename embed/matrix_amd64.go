package embed

import "golang.org/x/sys/cpu"

// multiply6x16AVX2 is multiply6x16 with 256-bit registers and fused multiplication.
//
//go:noescape
func multiply6x16AVX2(k int, a *float32, lda int, b *float32, bias *float32, c *float32, ldc int)

// kernel is the fastest multiply6x16 of this processor.
func kernel() func(k int, a *float32, lda int, b *float32, bias *float32, c *float32, ldc int) {
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		return multiply6x16AVX2
	}
	return multiply6x16
}
