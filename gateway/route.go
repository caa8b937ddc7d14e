package gateway

import "strings"

// fit returns how well a pattern matches a model: -1 is not at all, and a longer name is more specific.
func fit(pattern, model string) int {
	if start, is := strings.CutSuffix(pattern, "*"); is {
		if strings.HasPrefix(model, start) {
			return len(start)
		}
		return -1
	}
	if pattern == model {
		return maxName + 1 // more than any beginning
	}
	return -1
}

// route returns the upstream of a model: the one whose name or beginning of a name is the most specific, the first
// where several are. It is nil where there is none.
func (g *Gateway) route(api API, model string) (to *upstream) {
	best := -1
	for _, u := range g.upstreams {
		if u.API != api {
			continue
		}
		patterns := u.Models
		if len(patterns) == 0 {
			patterns = []string{"*"}
		}
		for _, p := range patterns {
			if n := fit(p, model); n > best {
				best, to = n, u
			}
		}
	}
	return to
}

// serves returns the upstreams of an API.
func (g *Gateway) serves(api API) (all []*upstream) {
	for _, u := range g.upstreams {
		if u.API == api {
			all = append(all, u)
		}
	}
	return all
}

// price returns a model's price, by the most specific name.
func (g *Gateway) price(model string) (p Price, ok bool) {
	best := -1
	for pattern, price := range g.prices {
		if n := fit(pattern, model); n > best {
			best, p = n, price
		}
	}
	return p, best >= 0
}

// cost returns what a call costs, by the price of a million tokens.
func (p Price) cost(u usage) float64 {
	read, write := p.Input, p.Input
	if p.CacheRead != nil {
		read = *p.CacheRead
	}
	if p.CacheWrite != nil {
		write = *p.CacheWrite
	}
	plain := max(0, u.input-u.cacheRead-u.cacheWrite)
	return (float64(plain)*p.Input + float64(u.cacheRead)*read + float64(u.cacheWrite)*write +
		float64(u.output)*p.Output) / 1e6
}
