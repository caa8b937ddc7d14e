package konstruct_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/konstruct/konstruct"
	"github.com/konstruct/konstruct/evidence"
	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/notary"
	"github.com/konstruct/konstruct/tenantdb"
	"github.com/konstruct/konstruct/verify"
)

// Get a receipt for an event, have the notary sign, and let an outsider verify what an agent did: with the public
// key and the bundle, and without a database.
func ExampleEvents_Receipt() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "notary-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	d, err := testkit.Clone("konstruct")
	if err != nil {
		log.Fatal(err)
	}
	keys := notary.Keys{File: filepath.Join(dir, "key"), Name: "acme.example/audit"}
	signer, err := keys.Load()
	if err != nil {
		log.Fatal(err)
	}
	k, err := konstruct.Open(ctx, konstruct.Config{DatabaseURL: d.URL("konstruct_app"), Receipts: signer})
	if err != nil {
		log.Fatal(err)
	}
	defer k.Close()
	acme := k.Tenant(acmeID)
	id, err := acme.Agent(supportID).LogToolCall(ctx, konstruct.ToolCall{Name: "refund", Arguments: `{"order":17}`})
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := acme.Events().Receipt(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.SplitN(receipt, "\n", 3)[1])

	// The notary is a process of its own: konstruct notary run.
	db, err := tenantdb.OpenEvidence(ctx, d.URL("konstruct_notary"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	n, err := notary.New(notary.Config{DB: db, Keys: keys, Anchor: notary.FileAnchor(filepath.Join(dir, "checkpoint"))})
	if err != nil {
		log.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Round(ctx); err != nil {
		log.Fatal(err)
	}
	var bundle bytes.Buffer
	action := "tool_invocation"
	if _, err := verify.WriteBundle(ctx, db, acmeID, evidence.Filter{Action: &action}, nil, &bundle, nil); err != nil {
		log.Fatal(err)
	}

	// The outsider.
	result, err := evidence.Verify(bytes.NewReader(bundle.Bytes()), int64(bundle.Len()),
		evidence.Trust{Key: signer.Key, Receipts: []string{receipt}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("holds:", result.OK(), "events:", result.Matching, "others:", result.Excluded)
	// Output:
	// tenant ac3e0000-0000-4000-8000-000000000001
	// holds: true events: 1 others: 0
}
