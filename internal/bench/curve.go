package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/konstruct/konstruct/search"
	"github.com/konstruct/konstruct/tenantdb"

	"math/rand/v2"
)

// Size is the duration of searches of a tenant of one size.
type Size struct {
	Chunks int
	Tier   search.Tier
	P50    float64 // in milliseconds
}

// curve measures tenants whose sizes are evenly spaced on a logarithmic scale.
func (b *Bench) curve(ctx context.Context, door *tenantdb.Door, all []sizedTenant,
	s SearchConfig) (sizes []Size, err error) {
	const steps = 24
	smallest, largest := float64(all[len(all)-1].chunks), float64(all[0].chunks)
	last := -1
	for i := range steps {
		s.Progress("measuring the curve", i, steps)
		want := smallest * math.Pow(largest/smallest, float64(i)/(steps-1))
		at := slices.IndexFunc(all, func(z sizedTenant) bool { return float64(z.chunks) <= want*1.0001 })
		if at < 0 || at == last {
			continue
		}
		last = at
		z, draw, searcher := all[at], rand.New(rand.NewPCG(9, uint64(at))), search.NewSearcher()
		size := Size{Chunks: z.chunks}
		var times []time.Duration
		for n := range 60 {
			q := z.point(draw, draw.IntN(z.chunks), questionSpread)
			begin := time.Now()
			f, err := searcher.Search(ctx, door, z.id, search.Query{Mode: search.Semantic, Vector: q, K: topK})
			if err != nil {
				return nil, err
			}
			if size.Tier = f.Plan.Tier; n >= 10 {
				times = append(times, time.Since(begin))
			}
		}
		slices.Sort(times)
		size.P50 = float64(times[len(times)/2].Microseconds()) / 1000
		sizes = append(sizes, size)
	}
	return sizes, nil
}

// Curve plots time against size as SVG, on logarithmic scales; each tier has its own colour.
func Curve(sizes []Size) string {
	if len(sizes) == 0 {
		return ""
	}
	const width, height, left, bottom = 640, 300, 60, 40
	low, high := sizes[0].P50, sizes[0].P50
	for _, s := range sizes {
		low, high = min(low, s.P50), max(high, s.P50)
	}
	low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	first, last := float64(sizes[0].Chunks), float64(sizes[len(sizes)-1].Chunks)
	x := func(chunks float64) float64 {
		return left + (width-left-20)*math.Log(chunks/first)/max(1e-9, math.Log(last/first))
	}
	y := func(ms float64) float64 { return 20 + (height-bottom-20)*(1-math.Log(ms/low)/math.Log(high/low)) }
	var b strings.Builder
	fmt.Fprintf(&b,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n"+
			`<rect width="%d" height="%d" fill="white"/>`+"\n", width, height, width, height)
	for ms := low; ms <= high*1.01; ms *= 10 {
		fmt.Fprintf(&b,
			`<line x1="%d" y1="%.0f" x2="%d" y2="%.0f" stroke="#ddd"/>`+
				`<text x="%d" y="%.0f" text-anchor="end">%g ms</text>`+"\n", left, y(ms), width-20, y(ms), left-6,
			y(ms)+4, ms)
	}
	for chunks := math.Pow(10, math.Ceil(math.Log10(first))); chunks <= last; chunks *= 10 {
		fmt.Fprintf(&b, `<text x="%.0f" y="%d" text-anchor="middle">%g</text>`+"\n", x(chunks),
			height-bottom+18, chunks)
	}
	for _, tier := range []struct {
		name   search.Tier
		colour string
	}{{search.Exact, "#0a66c2"}, {search.Indexed, "#c2410a"}} {
		var points []string
		for _, s := range sizes {
			if s.Tier == tier.name {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(float64(s.Chunks)), y(s.P50)))
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(float64(s.Chunks)), y(s.P50),
					tier.colour)
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n",
			strings.Join(points, " "), tier.colour)
	}
	fmt.Fprintf(&b,
		`<text x="%d" y="14" fill="#0a66c2">exact</text>`+
			`<text x="%d" y="14" fill="#c2410a">an index of its own</text>`+
			`<text x="%d" y="%d" text-anchor="end">passages of the tenant</text>`+"\n</svg>\n", left+10, left+60,
		width-20, height-6)
	return b.String()
}
