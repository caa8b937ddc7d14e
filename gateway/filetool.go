package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/konstruct/konstruct/pgtext"
	"github.com/konstruct/konstruct/strictjson"
)

// fileTool is the tool file_search of a request.
type fileTool struct {
	at       int    // its place among the tools
	function string // that stands for it before the upstream's model
	query    FileQuery
	include  bool // the results in the response
	calls    int  // that the request's max_tool_calls allows; negative: any
}

const fileToolType = "file_search"

// maxFilter is how many bytes a tool's filters may have.
const maxFilter = 64 << 10

// readFileTool returns the request's tool file_search where it is this service's to answer, and nil where there is none
// or its stores are the upstream's.
func readFileTool(tools json.RawMessage) (t *fileTool, err error) {
	if !bytes.Contains(tools, []byte(fileToolType)) && !bytes.Contains(tools, []byte(`\u`)) {
		return nil, nil
	}
	names := map[string]bool{}
	var members map[string]json.RawMessage
	for i, raw := range elements(tools) {
		var w struct {
			Type     string   `json:"type"`
			Name     string   `json:"name"`
			Stores   []string `json:"vector_store_ids"`
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		}
		if err := json.Unmarshal(raw, &w); err != nil && w.Type != fileToolType {
			continue // the upstream says what is wrong
		}
		names[w.Name], names[w.Function.Name] = true, true
		if w.Type != fileToolType || !slices.ContainsFunc(w.Stores, func(id string) bool {
			_, own := ownStore(id)
			return own
		}) {
			continue
		}
		at := fmt.Sprintf("tools[%d]", i)
		if t != nil {
			return nil, badParam(at, "there is one file_search tool already, tools[%d]: name all stores there", t.at)
		}
		t = &fileTool{at: i, calls: -1}
		if members, err = strictMembers(raw, at, "type", "vector_store_ids", "filters", "max_num_results",
			"ranking_options"); err != nil {
			return nil, err
		}
		if err := t.read(members, at); err != nil {
			return nil, err
		}
	}
	if t != nil {
		for t.function = fileToolType; names[t.function]; t.function += "_" {
		}
	}
	return t, nil
}

// strictMembers returns the members of an object that are not null, and refuses names that are not known.
func strictMembers(raw json.RawMessage, at string, known ...string) (map[string]json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := strictjson.CheckDuplicates(raw); err != nil {
		return nil, badParam(at, "%v", err)
	}
	if json.Unmarshal(raw, &all) != nil {
		return nil, badParam(at, "it must be an object")
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(known, name) {
			f := badParam(fmt.Sprintf("%s.%.100s", at, name), "this service does not know it")
			f.Code = "unknown_parameter"
			return nil, f
		}
		if string(all[name]) == "null" {
			delete(all, name)
		}
	}
	return all, nil
}

func (t *fileTool) read(m map[string]json.RawMessage, at string) error {
	var ids []string
	if json.Unmarshal(m["vector_store_ids"], &ids) != nil || len(ids) > maxStores {
		return badParam(at+".vector_store_ids", "it is a list of 1 to %d ids", maxStores)
	}
	for i, id := range ids {
		store, own := ownStore(id)
		if !own {
			return badParam(fmt.Sprintf("%s.vector_store_ids[%d]", at, i),
				"%.100q is a store of another service: a search is either of its stores or of this one's", id)
		}
		if !slices.Contains(t.query.Stores, store) {
			t.query.Stores = append(t.query.Stores, store)
		}
	}
	t.query.Max = defaultResults
	if raw, there := m["max_num_results"]; there {
		if json.Unmarshal(raw, &t.query.Max) != nil || t.query.Max < 1 || t.query.Max > maxResults {
			return badParam(at+".max_num_results", "it is a number from 1 to %d", maxResults)
		}
	}
	if raw := m["filters"]; len(raw) > maxFilter {
		return badParam(at+".filters", "it is %d bytes long, the limit is %d", len(raw), maxFilter)
	} else if raw != nil {
		t.query.Filter = bytes.Clone(raw)
	}
	if raw, there := m["ranking_options"]; there {
		return t.readRanking(raw, at+".ranking_options")
	}
	return nil
}

func (t *fileTool) readRanking(raw json.RawMessage, at string) error {
	m, err := strictMembers(raw, at, "ranker", "score_threshold", "hybrid_search")
	if err != nil {
		return err
	}
	if raw, there := m["ranker"]; there {
		var ranker string
		if json.Unmarshal(raw, &ranker) != nil || ranker != "auto" && ranker != "default-2024-11-15" {
			return badParam(at+".ranker", `it is "auto" or "default-2024-11-15", which both are this service's own`)
		}
	}
	if raw, there := m["score_threshold"]; there {
		var least float64
		if json.Unmarshal(raw, &least) != nil || least < 0 || least > 1 {
			return badParam(at+".score_threshold", "it is a number from 0 to 1")
		}
		t.query.Threshold = &least
	}
	if raw, there := m["hybrid_search"]; there {
		weights, err := strictMembers(raw, at+".hybrid_search", "embedding_weight", "text_weight")
		if err != nil {
			return err
		}
		var embedding, text float64
		if json.Unmarshal(weights["embedding_weight"], &embedding) != nil ||
			json.Unmarshal(weights["text_weight"], &text) != nil || embedding <= 0 || text != 0 {
			return badParam(at+".hybrid_search", "the weights of this service's hybrid search are fixed: leave it "+
				"out, or set text_weight to 0 for a search by embeddings alone")
		}
		t.query.Semantic = true
	}
	return nil
}

// queries reads the arguments with which a model asks for a search.
func queries(arguments string) (all []string) {
	var w struct {
		Queries json.RawMessage `json:"queries"`
		Query   string          `json:"query"`
	}
	if json.Unmarshal([]byte(arguments), &w) != nil {
		return nil
	}
	one := w.Query
	if json.Unmarshal(w.Queries, &all) != nil {
		_ = json.Unmarshal(w.Queries, &one) // a text in the place of a list
		all = []string{one}
	}
	all = slices.DeleteFunc(all, func(q string) bool { return q == "" })
	all = all[:min(len(all), maxFileQueries)]
	for i := range all {
		all[i] = cleaned(pgtext.Head(all[i], maxFileQuery))
	}
	return all
}
