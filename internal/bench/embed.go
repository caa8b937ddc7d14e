package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/konstruct/konstruct/embed"
)

// Embed measures the model's backends on texts of a whole chunk: pure Go against ONNX Runtime where it is,
// and one text at a time against batches.
func Embed(ctx context.Context, m embed.Model, length time.Duration) (lines []Measurement, err error) {
	texts := make([]string, 64)
	for i := range texts {
		texts[i] = fmt.Sprintf("%d %s", i,
			strings.Repeat("The light of the sun consists of rays differently refrangible. ", 18))
	}
	b := &Bench{Time: length}
	local, why, err := embed.OpenLocal(m)
	if err != nil {
		return nil, err
	}
	defer local.Close()
	base, err := b.measure(ctx, local.Runtime()+", batches of 64", "texts", 1, len(texts), func(int) error {
		_, err := local.Embed(ctx, texts)
		return err
	})
	if err != nil {
		return nil, err
	}
	lines = append(lines, base)
	short, err := b.measure(ctx, local.Runtime()+", a question alone", "texts", 1, 1, func(int) error {
		_, err := local.Embed(ctx, []string{"Are rays of different colours refracted alike?"})
		return err
	})
	if err != nil {
		return nil, err
	}
	lines = append(lines, short)
	if why != nil { // pure Go it was
		return lines, nil
	}
	pure, err := embed.OpenPure(m)
	if err != nil {
		return nil, err
	}
	defer pure.Close()
	if _, err := pure.Embed(ctx, texts[:16]); err != nil { // compiles
		return nil, err
	}
	start := time.Now()
	if _, err := pure.Embed(ctx, texts[:16]); err != nil {
		return nil, err
	}
	slow := Measurement{What: "pure Go, a batch of 16", Unit: "texts", Rate: 16 / time.Since(start).Seconds()}
	return append(lines, slow.against(base)), nil
}
