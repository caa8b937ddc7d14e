package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/konstruct/konstruct/ledger"
)

// ActionRetrieval is the type of events that say what a search of a knowledge base showed.
const ActionRetrieval = "retrieval"

// Text is a text that a search is said to have shown.
type Text struct{ Name, Content string }

// text is one that is looked for, by its hash.
type text struct {
	name  string
	shown int // how often
}

// texts notes which of the texts that are looked for an event says it showed.
func (c *bundleCheck) texts(r *ledger.Record) {
	if len(c.t.Texts) == 0 {
		return
	}
	if c.examined == nil {
		c.examined = map[string]*text{}
		for _, t := range c.t.Texts {
			sum := sha256.Sum256([]byte(t.Content))
			c.examined[hex.EncodeToString(sum[:])] = &text{name: t.Name}
		}
	}
	action, metadata := &r.Shown[ledger.ActionType-1], &r.Shown[ledger.Metadata-1]
	if !action.Open || string(action.Value) != ActionRetrieval || !metadata.Open {
		return
	}
	type passage struct {
		SHA256 string `json:"konstruct.content_sha256"`
	}
	var said struct {
		Documents []struct {
			passage
			Around []passage `json:"konstruct.around"`
		} `json:"gen_ai.retrieval.documents"`
	}
	if json.Unmarshal(metadata.Value, &said) != nil {
		return // another client's: it says nothing of passages
	}
	for i, d := range said.Documents {
		for _, p := range append(d.Around, d.passage) {
			t := c.examined[p.SHA256]
			if t == nil {
				continue
			}
			if t.shown++; t.shown <= maxRetrieved {
				c.Holds = append(c.Holds,
					fmt.Sprintf("event %s gave an agent exactly the text of %s, as passage %d of %d, at %s",
						ledger.FormatID(r.ID), t.name, i+1, len(said.Documents), timeText(r.CreatedAt)))
			}
		}
	}
}

// maxRetrieved is how many events are named for each text.
const maxRetrieved = 10

// textsShown says which texts no event showed.
func (c *bundleCheck) textsShown() {
	for _, want := range c.t.Texts {
		sum := sha256.Sum256([]byte(want.Content))
		if t := c.examined[hex.EncodeToString(sum[:])]; t == nil || t.shown == 0 {
			c.problem("", "text", "no search in this bundle shows exactly the text of %s", want.Name)
		}
	}
}
