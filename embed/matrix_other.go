//go:build !amd64

package embed

// kernel is the fastest multiply6x16 of this processor.
func kernel() func(k int, a *float32, lda int, b *float32, bias *float32, c *float32, ldc int) {
	return multiply6x16
}
