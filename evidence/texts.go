package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/konstruct/konstruct/ledger"
)

// ActionRetrieval is the action type of events that record what a search of a knowledge base returned.
const ActionRetrieval = "retrieval"

// Text is a text that a search must have returned; Name is its name in messages.
type Text struct{ Name, Content string }

// text counts how often searches returned a text.
type text struct {
	name  string
	shown int // number of passages
}

// texts counts the wanted texts that a retrieval event names among its passages, by their SHA-256.
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
	var retrieval struct {
		Documents []struct {
			passage
			Around []passage `json:"konstruct.around"`
		} `json:"gen_ai.retrieval.documents"`
	}
	if json.Unmarshal(metadata.Value, &retrieval) != nil {
		return // written by another client, without our passages
	}
	for i, d := range retrieval.Documents {
		for _, p := range append(d.Around, d.passage) {
			t := c.examined[p.SHA256]
			if t == nil {
				continue
			}
			if t.shown++; t.shown <= maxRetrieved {
				c.Holds = append(c.Holds,
					fmt.Sprintf("event %s gave an agent exactly the text of %s, as passage %d of %d, at %s",
						ledger.FormatID(r.ID), t.name, i+1, len(retrieval.Documents), timeText(r.CreatedAt)))
			}
		}
	}
}

// maxRetrieved is how many events are listed for each text.
const maxRetrieved = 10

// textsShown reports the texts that no event returned.
func (c *bundleCheck) textsShown() {
	for _, want := range c.t.Texts {
		sum := sha256.Sum256([]byte(want.Content))
		if t := c.examined[hex.EncodeToString(sum[:])]; t == nil || t.shown == 0 {
			c.problem("", "text", "no search in this bundle shows exactly the text of %s", want.Name)
		}
	}
}
