package embed

import (
	"math"
	"unsafe"
)

// Matrices are multiplied in tiles of tileRows by tileCols, which fit into the registers of a processor.
const (
	tileRows = 6
	tileCols = 16
)

// upTo rounds up to a multiple.
func upTo(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }

// packed is a matrix of k rows as multiplication reads it: tileCols columns after tileCols columns, the last filled
// with zeros.
type packed struct {
	k, cols int
	data    []float32
}

// pack packs a matrix whose number in row r and column c is at(r, c), into data where that is large enough.
func pack(data []float32, k, cols int, at func(r, c int) float32) packed {
	p := packed{k, upTo(cols, tileCols), data}
	if n := k * p.cols; cap(data) < n {
		p.data = make([]float32, n)
	} else {
		p.data = data[:n]
	}
	for from := 0; from < p.cols; from += tileCols {
		tile := p.data[from*k:]
		for r := range k {
			for c := range tileCols {
				tile[r*tileCols+c] = 0
				if from+c < cols {
					tile[r*tileCols+c] = at(r, from+c)
				}
			}
		}
	}
	return p
}

// product multiplies a, rows by b.k numbers lda apart, with b, adds the bias to each row, and writes c, ldc apart. rows
// is a multiple of tileRows; ldc at least b.cols.
func product(multiply func(int, *float32, int, *float32, *float32, *float32, int), rows int, a []float32, lda int,
	b packed, bias, c []float32, ldc int) {
	_, _ = a[(rows-1)*lda+b.k-1], c[(rows-1)*ldc+b.cols-1] // what follows is not checked
	for col := 0; col < b.cols; col += tileCols {
		for row := 0; row < rows; row += tileRows {
			multiply(b.k, &a[row*lda], lda, &b.data[col*b.k], &bias[col], &c[row*ldc+col], ldc)
		}
	}
}

// multiply6x16 multiplies tileRows rows of a, lda numbers apart, with k packed rows of tileCols numbers, adds the bias,
// and writes c.
func multiply6x16(k int, a *float32, lda int, b *float32, bias *float32, c *float32, ldc int) {
	as, bs := unsafe.Slice(a, (tileRows-1)*lda+k), unsafe.Slice(b, k*tileCols)
	for r := range tileRows {
		var sum [tileCols]float32
		copy(sum[:], unsafe.Slice(bias, tileCols))
		for i, x := range as[r*lda : r*lda+k] {
			row := bs[i*tileCols : i*tileCols+tileCols]
			for j := range sum {
				sum[j] += x * row[j]
			}
		}
		copy(unsafe.Slice(c, (tileRows-1)*ldc+tileCols)[r*ldc:], sum[:])
	}
}

// exp32 computes e^x for x <= 0, to within a few units in the last place of float32.
func exp32(x float32) float32 {
	if x < -87 {
		return 0
	}
	const log2e, high, low = 1.44269504, 0.693359375, -2.12194440e-4
	n := float32(math.Floor(float64(x*log2e + 0.5)))
	x -= n * high
	x -= n * low
	p := ((((1.9875691500e-4*x+1.3981999507e-3)*x+8.3334519073e-3)*x+4.1665795894e-2)*x+1.6666665459e-1)*x +
		5.0000001201e-1
	return (p*x*x + x + 1) * math.Float32frombits(uint32(int32(n)+127)<<23)
}

// gelu computes x times the normal distribution function of x, by Abramowitz and Stegun 7.1.26, to within 2e-7.
func gelu(x float32) float32 {
	z := x * math.Sqrt2 / 2
	if z < 0 {
		z = -z
	}
	t := 1 / (1 + 0.3275911*z)
	erf := 1 - ((((1.061405429*t-1.453152027)*t+1.421413741)*t-0.284496736)*t+0.254829592)*t*exp32(-z*z)
	if x < 0 {
		erf = -erf
	}
	return 0.5 * x * (1 + erf)
}
