package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/konstruct/konstruct/audit"
	"github.com/konstruct/konstruct/plural"
)

type spoolCmd struct {
	Status   spoolStatusCmd   `cmd:"" default:"withargs" help:"What waits (the default)."`
	Rejected spoolRejectedCmd `cmd:"" help:"List events that the database refused after they were acknowledged."`
	Ship     spoolShipCmd     `cmd:"" help:"Ship what waits, and end when nothing does."`
	Retry    spoolRetryCmd    `cmd:"" help:"Put the refused events back and ship them."`
}

// needSpool returns the spool's folder, or says which setting is missing.
func (a *app) needSpool() (string, error) {
	if a.SpoolDir == "" {
		return "", coded{errors.New("the spool needs KONSTRUCT_SPOOL_DIR: set it to a folder of this process's own, " +
			"as /var/lib/konstruct/spool"), exitUsage}
	}
	return a.SpoolDir, nil
}

type spoolStatusCmd struct{}

// Help is shown by --help.
func (spoolStatusCmd) Help() string {
	return "Reads the folder, whether a process has it open or not, and changes nothing.\n\nExample:\n\n  konstruct " +
		"audit spool --spool-dir /var/lib/konstruct/spool"
}

// Run prints what waits.
func (spoolStatusCmd) Run(a *app) error {
	dir, err := a.needSpool()
	if err != nil {
		return err
	}
	st, err := audit.InspectSpool(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no spool in %s: it is made when the first event waits there", dir)
	}
	if err != nil {
		return err
	}
	if a.JSON {
		return a.json(st)
	}
	age := ""
	if !st.Oldest.IsZero() {
		age = fmt.Sprintf(", the oldest for %v", time.Since(st.Oldest).Round(time.Second))
	}
	fmt.Fprintf(a.out, "waiting   %s%s (%d bytes on disk)\n", plural.Of(st.Waiting, "event", "events"), age, st.Bytes)
	fmt.Fprintf(a.out, "rejected  %s\n", plural.Of(st.Rejected, "event", "events"))
	if st.Rejected > 0 {
		fmt.Fprintln(a.out, "          see konstruct audit spool rejected; konstruct audit spool retry puts them back")
	}
	if st.Gaps > 0 {
		fmt.Fprintf(a.out,
			"gaps      %s that calls went on without; to be recorded when the trail can be written\n",
			plural.Of(st.Gaps, "event", "events"))
	}
	if st.Damaged > 0 {
		fmt.Fprintf(a.out, "damaged   %d bytes that held no whole event, kept in %s/damaged\n", st.Damaged, dir)
	}
	return nil
}

type spoolRejectedCmd struct{}

// Run lists the refused events.
func (spoolRejectedCmd) Run(a *app) error {
	dir, err := a.needSpool()
	if err != nil {
		return err
	}
	list, err := audit.ReadRejected(dir)
	if err != nil {
		return err
	}
	if list == nil {
		list = []audit.Rejected{}
	}
	return printTable(a, list, []string{"REJECTED", "TENANT", "EVENT", "ACTION", "REASON"},
		func(r audit.Rejected) []string {
			return []string{r.At.UTC().Format(tableTime), r.Tenant.String(), r.Event.String(), r.Action,
				oneLine(r.Reason, 80)}
		})
}

type spoolShipCmd struct{}

// Help is shown by --help.
func (spoolShipCmd) Help() string {
	return "For a folder that no running process has open: whoever has it open ships it already."
}

// Run ships what waits.
func (spoolShipCmd) Run(ctx context.Context, a *app) error {
	return a.shipSpool(ctx, func(*audit.Spool) error { return nil })
}

type spoolRetryCmd struct{}

// Run puts the refused events back and ships.
func (spoolRetryCmd) Run(ctx context.Context, a *app) error {
	return a.shipSpool(ctx, func(s *audit.Spool) error {
		n, err := s.Retry(ctx)
		if err == nil && !a.JSON {
			fmt.Fprintf(a.out, "%s put back\n", plural.Of(n, "event", "events"))
		}
		return err
	})
}

// shipSpool opens the spool, does something first, and waits until nothing waits.
func (a *app) shipSpool(ctx context.Context, first func(*audit.Spool) error) error {
	before, err := a.inspectSpool() // once it is open, its events are shipped
	if err != nil {
		return err
	}
	k, done, err := a.openWith(ctx, func(*audit.Policy) bool { return true })
	if err != nil {
		return err
	}
	defer done()
	s, err := k.Trail().Spool()
	if err != nil {
		return err
	}
	if err := first(s); err != nil {
		return err
	}
	begin := s.Status().Waiting
	p := a.newProgress("shipping", "events", int64(begin))
	ended := make(chan error, 1)
	go func() { ended <- s.Drain(ctx) }()
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case err := <-ended:
			tick.Stop()
			p.done()
			st := s.Status()
			if err != nil {
				return err
			}
			return a.printShipped(st, before.Waiting+before.Rejected-st.Waiting-st.Rejected)
		case <-tick.C:
			gone := int64(begin - s.Status().Waiting)
			p.set(gone, int64(begin), gone)
		}
	}
}

// inspectSpool is what the spool holds; nothing where there is none yet.
func (a *app) inspectSpool() (audit.SpoolStatus, error) {
	dir, err := a.needSpool()
	if err != nil {
		return audit.SpoolStatus{}, err
	}
	st, err := audit.InspectSpool(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	return st, err
}

// printShipped prints what became of the events, and fails where some remain rejected.
func (a *app) printShipped(st audit.SpoolStatus, shipped int) error {
	if a.JSON {
		if err := a.json(st); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "%s shipped; %d rejected\n", plural.Of(shipped, "event", "events"), st.Rejected)
	}
	if st.Rejected > 0 {
		return fmt.Errorf("%s %s rejected: see konstruct audit spool rejected",
			plural.Of(st.Rejected, "event", "events"), plural.Word(st.Rejected, "remains", "remain"))
	}
	return nil
}

// parseBytes reads a size: 1048576, 512MiB, 1GiB.
func parseBytes(setting, s string) (int64, error) {
	units := []struct {
		suffix string
		bytes  int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"", 1}}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 1 || n > (1<<62)/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, coded{fmt.Errorf("%s: %q is no size such as 512MiB or 1GiB", setting, s), exitUsage}
}
