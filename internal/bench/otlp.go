package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/konstruct/konstruct/internal/llmfake"
)

// OTLP measures exports of spans one after the other, over HTTP in protobuf, until they are answered: then they are
// sealed on the trail. Where beside is the address of another service that takes them, such as the OpenTelemetry
// Collector, it gets as many, alternately.
func (b *Bench) OTLP(ctx context.Context, s ServiceConfig, beside string) (lines []Measurement, err error) {
	_, sv, stop, err := b.serving(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	const path, protobuf = "/v1/traces", "application/x-protobuf"
	for _, size := range []int{1, 512} {
		ours, theirs := &callTimes{}, &callTimes{}
		for begin := time.Now(); time.Since(begin) < b.Time || len(ours.whole) < 20; {
			for _, to := range []struct {
				times    *callTimes
				url, key string
			}{{ours, sv.url, sv.keys[0]}, {theirs, beside, ""}} {
				if to.url == "" {
					continue
				}
				raw, err := ptraceotlp.NewExportRequestFromTraces(llmfake.Spans(size, true)).MarshalProto()
				if err == nil {
					err = to.times.call(ctx, sv.client, to.url+path, to.key, protobuf, string(raw))
				}
				if err != nil {
					return nil, fmt.Errorf("an export to %s: %w", to.url, err)
				}
			}
		}
		what := fmt.Sprintf("export of %d spans", size)
		if size == 1 {
			what = "export of 1 span"
		}
		mine := callLine(what+", sealed", ours.whole)
		if beside != "" {
			base := callLine(what+", beside", theirs.whole)
			mine.Baseline, mine.Ratio = base.What, mine.Rate/base.Rate
			mine.Note = fmt.Sprintf("adds %.2f ms at the median, %.2f ms at p99", mine.P50-base.P50, mine.P99-base.P99)
			lines = append(lines, base)
		}
		lines = append(lines, mine)
	}
	return lines, nil
}
