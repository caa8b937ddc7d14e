package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/konstruct/konstruct/internal/devpg"
)

type devCmd struct {
	DB devDBCmd `cmd:"" name:"db" help:"Start the private PostgreSQL, print its URLs, stay until stopped."`
}

type devDBCmd struct{}

// Help is shown by --help.
func (devDBCmd) Help() string {
	return "Prints one KONSTRUCT_…=URL a line when it is ready; a file of these lines is a configuration, until it " +
		"stops:\n\n  konstruct dev db >dev.env &\n  konstruct --config dev.env doctor"
}

// Run starts the cluster, migrates, prints one URL a line, and stops on TERM or INT.
func (devDBCmd) Run(ctx context.Context, a *app) error {
	if c, err := devpg.Running(ctx, a.DataDir); err != nil {
		return err
	} else if c != nil {
		fmt.Fprintf(a.err, "konstruct: the private PostgreSQL in %s runs already, and ends with whoever started it: "+
			"these are its URLs\n", a.DataDir)
		return a.printURLs(clusterURLs(c))
	}
	cluster, err := a.privateCluster(ctx)
	if err != nil {
		return err
	}
	defer cluster.Stop()
	if err := a.printURLs(clusterURLs(cluster)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-orphaned(ctx):
		return nil
	case <-cluster.Exited():
		return fmt.Errorf("the private PostgreSQL stopped by itself: its log is %s/pg/log", a.DataDir)
	}
}

// printURLs prints one URL a line.
func (a *app) printURLs(u databaseURLs) error {
	for _, line := range [][2]string{{"", u.app}, {"OWNER_", u.owner}, {"NOTARY_", u.notary},
		{"COMPLIANCE_", u.compliance}, {"WORKER_", u.worker}, {"SUPERUSER_", u.superuser}} {
		if _, err := fmt.Fprintf(a.out, "KONSTRUCT_%sDATABASE_URL=%s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}

// orphaned is closed when the process that started us is gone: a shell, a test, a supervisor.
func orphaned(ctx context.Context) <-chan struct{} {
	gone, parent := make(chan struct{}), os.Getppid()
	go func() {
		for os.Getppid() == parent {
			select {
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
		close(gone)
	}()
	return gone
}
