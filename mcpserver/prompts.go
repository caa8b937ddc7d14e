package mcpserver

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/konstruct/konstruct/access"
	"github.com/konstruct/konstruct/strictjson"
)

// prompt is one prompt, with what it takes to get it.
type prompt struct {
	definition *mcp.Prompt
	needs      access.Permission
	get        mcp.PromptHandler
}

// maxQuestion is how many bytes a prompt's argument has at most.
const maxQuestion = 32 << 10

const answerRule = "Answer the question in the next message from Konstruct's knowledge base alone. Call search " +
	"with it, and " +
	"search again in other words where that finds too little. Call cite for each passage that you use. Behind each " +
	"statement write the number of its source in brackets, and at the end list the sources: title, url, page, " +
	"passage_id and sha256. Where the knowledge base does not say, say so, and guess nothing. " + frameRule

const explainRule = "Explain the run in the next message to somebody who did not see it: what was asked, what " +
	"the agents did in " +
	"which order and why, what they read, what failed, what people decided, and how it ended. Name each event " +
	"that you " +
	"speak of by its id. Call timeline with the run's next_cursor for what does not fit, and verify_event where it " +
	"matters that an event was not changed. Where the trail does not say why, say so. " + frameRule

// prompts returns the prompts. Their rules are constants: what a caller or a document says is in messages of its own.
func (s *Server) prompts() []prompt {
	return []prompt{
		{definition: &mcp.Prompt{Name: "answer_with_citations", Title: "Answer with citations",
			Description: "Answers a question from the knowledge base, with a source for each statement",
			Arguments:   []*mcp.PromptArgument{{Name: "question", Description: "What to answer", Required: true}}},
			needs: access.KBRead, get: s.answerPrompt},
		{definition: &mcp.Prompt{Name: "explain_run", Title: "Explain this run",
			Description: "Explains what happened in a conversation or trace, event by event",
			Arguments: []*mcp.PromptArgument{{Name: "run", Description: "A conversation or a trace",
				Required: true}}},
			needs: access.EventsRead, get: s.explainPrompt},
	}
}

// promptArgument returns an argument that must be there.
func promptArgument(r *mcp.GetPromptRequest, name string) (string, error) {
	for given := range r.Params.Arguments {
		if given != name {
			return "", argument(recordable(given), "there is no such argument: there is %s", name)
		}
	}
	s := r.Params.Arguments[name]
	switch {
	case s == "":
		return "", argument(name, "it is missing")
	case len(s) > maxQuestion:
		return "", argument(name, "it has %d bytes, the limit is %d", len(s), maxQuestion)
	case recordable(s) != s && len(s) <= maxName:
		return "", argument(name, "it has a character that can't be stored")
	}
	return s, nil
}

func (s *Server) answerPrompt(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	question, err := promptArgument(r, "question")
	if err != nil {
		return nil, err
	}
	return &mcp.GetPromptResult{Description: "Answer with citations", Messages: []*mcp.PromptMessage{
		{Role: "user", Content: &mcp.TextContent{Text: answerRule}},
		{Role: "user", Content: &mcp.TextContent{Text: question}}}}, nil
}

// promptEvents is how many events of a run its prompt has.
const promptEvents = 100

func (s *Server) explainPrompt(ctx context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	run, err := promptArgument(r, "run")
	if err != nil {
		return nil, err
	}
	c, _ := ctx.Value(callKey{}).(*call)
	t, err := c.timeline(ctx, run, "", promptEvents)
	if err != nil {
		return nil, err
	}
	raw, err := strictjson.Marshal(t.framed(newBoundary()))
	if err != nil {
		return nil, err
	}
	c.summary = map[string]any{"events": len(t.Events), "total": t.Total}
	meta := mcp.Meta{metaUntrusted: true, metaSources: t.sources()}
	return &mcp.GetPromptResult{Description: "Explain this run", Messages: []*mcp.PromptMessage{
		{Role: "user", Content: &mcp.TextContent{Text: explainRule}},
		{Role: "user", Content: &mcp.EmbeddedResource{Meta: meta, Resource: &mcp.ResourceContents{URI: runURI(run),
			MIMEType: "application/json", Text: string(raw), Meta: meta}}}}}, nil
}
