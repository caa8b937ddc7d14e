// Command konstruct-verify checks an evidence bundle offline, and does nothing else: it is `konstruct verify`
// without the database, the network and everything else that a stranger would have to trust.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/konstruct/konstruct/evidence"
)

func main() { os.Exit(run()) }

func run() int {
	var c evidence.Command
	var asJSON bool
	flag.StringVar(&c.Key, "key", "",
		"the notary's public key, or a file that holds it, from somewhere else than the bundle")
	flag.IntVar(&c.Quorum, "quorum", 0, "how many of the witnesses must have cosigned")
	flag.IntVar(&c.Floor, "retention-floor", evidence.DefaultFloor,
		"for how many days every event is kept at least; 0 is none")
	flag.StringVar(&c.Events, "events", "", "write the proven events to this file, a JSON object a line")
	flag.StringVar(&c.Authority, "tsa", "",
		"a file of PEM certificates: the time-stamping authorities that you believe")
	flag.BoolVar(&asJSON, "json", false, "print JSON")
	flag.Func("witness", "the key of a witness that you trust; can be repeated", func(s string) error {
		c.Witnesses = append(c.Witnesses, s)
		return nil
	})
	flag.Func("receipt", "a receipt that the bundle must keep; can be repeated", func(s string) error {
		c.Receipts = append(c.Receipts, s)
		return nil
	})
	flag.Func("text", "a file whose text, byte for byte, a search in the bundle must have shown; can be repeated",
		func(s string) error {
			c.Texts = append(c.Texts, s)
			return nil
		})
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "Usage: konstruct-verify -key KEY [flags] BUNDLE.zip\n\nExit codes: 0 "+
			"everything holds, 1 something does not or the bundle can't be read, 2 wrong usage.\n\n")
		flag.PrintDefaults()
	}
	var files []string
	for rest := os.Args[1:]; ; rest = flag.Args()[1:] { // flags may stand behind the file, as `konstruct verify` has it
		_ = flag.CommandLine.Parse(rest) // which exits where it fails
		if flag.NArg() == 0 {
			break
		}
		files = append(files, flag.Arg(0))
	}
	if len(files) != 1 || c.Key == "" {
		flag.Usage()
		return 2
	}
	c.Bundle = files[0]
	result, err := c.Run()
	if errors.Is(err, evidence.ErrArgument) {
		fmt.Fprintln(os.Stderr, "konstruct-verify:", err)
		return 2
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "konstruct-verify:", err)
		return 1
	}
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = e.Encode(result)
	} else {
		err = result.Print(os.Stdout)
	}
	if err != nil || !result.OK() {
		return 1
	}
	return 0
}
