package gateway

import "encoding/json"

// piece returns a text of a message of the answer that arrives.
func (a *responsesAnswer) piece(index, part int) *textPiece {
	at := [2]int{index, part}
	if a.texts[at] == nil {
		a.texts[at] = &textPiece{citer: citer{known: a.f.known}}
	}
	return a.texts[at]
}

// textEvent takes an event of a text, and sends what the client is told of it.
func (a *responsesAnswer) textEvent(kind string, index int, e object) error {
	part := numberOf(e["content_index"])
	p := a.piece(index, part)
	switch kind {
	case "response.output_text.delta":
		text, cited := p.writeJSON(e["delta"])
		return a.sendText(p, e, text, cited)
	case "response.output_text.annotation.added": // the upstream's own, of another tool
		e["annotation_index"] = number(len(p.annotations))
		p.annotations = append(p.annotations, e["annotation"])
		return a.send(e)
	case "response.output_text.done":
		if err := a.finish(p, e, e["text"]); err != nil {
			return err
		}
		e["text"], e["logprobs"] = quote(p.text.String()), json.RawMessage("[]")
	case "response.content_part.done":
		made, err := a.part(p, e, e["part"])
		if err != nil {
			return err
		}
		e["part"] = made
	}
	return a.send(e)
}

// sendText sends a piece of a text, and the annotations that it brings.
func (a *responsesAnswer) sendText(p *textPiece, at object, text string, cited []citation) error {
	at = object{"type": quote("response.output_text.delta"), "item_id": at["item_id"],
		"output_index": at["output_index"], "content_index": at["content_index"]}
	for name, raw := range at {
		if raw == nil {
			delete(at, name)
		}
	}
	if text != "" && a.f.begun {
		at["delta"], at["logprobs"] = quote(text), json.RawMessage("[]")
		if err := a.send(at); err != nil {
			return err
		}
	}
	delete(at, "delta")
	delete(at, "logprobs")
	for _, c := range cited {
		annotation := encode(object{"type": quote("file_citation"), "file_id": quote(c.FileID),
			"filename": quote(c.Filename), "index": number(c.index)})
		at["type"], at["annotation"] = quote("response.output_text.annotation.added"), annotation
		at["annotation_index"] = number(len(p.annotations))
		if p.annotations = append(p.annotations, annotation); !a.f.begun {
			continue
		}
		if err := a.send(at); err != nil {
			return err
		}
	}
	return nil
}

// finish ends a text: what was held back is sent, and all of it where it did not come in pieces.
func (a *responsesAnswer) finish(p *textPiece, at object, whole json.RawMessage) error {
	if p.over {
		return nil
	}
	p.over = true
	if !p.began {
		text, cited := p.writeJSON(whole)
		if err := a.sendText(p, at, text, cited); err != nil {
			return err
		}
	}
	return a.sendText(p, at, p.flush(), nil)
}

// part ends a part of a message, and returns it as the client knows it.
func (a *responsesAnswer) part(p *textPiece, at object, raw json.RawMessage) (json.RawMessage, error) {
	var part object
	if json.Unmarshal(raw, &part) != nil || unquote(part["type"]) != "output_text" {
		return raw, nil
	}
	if !p.began && !p.over { // the upstream's own annotations came with it
		p.annotations = append(p.annotations, elements(part["annotations"])...)
	}
	if err := a.finish(p, at, part["text"]); err != nil {
		return nil, err
	}
	part["text"], part["annotations"] = quote(p.text.String()), encode(append([]json.RawMessage{}, p.annotations...))
	if part["logprobs"] != nil {
		part["logprobs"] = json.RawMessage("[]")
	}
	return encode(part), nil
}

// message ends an item, whose event says where it is, and returns it as the client knows it.
func (a *responsesAnswer) message(index int, e object) (json.RawMessage, error) {
	var item object
	if kind, _ := kindOf(e["item"]); kind != "message" || json.Unmarshal(e["item"], &item) != nil {
		return e["item"], nil
	}
	parts := elements(item["content"])
	for i, raw := range parts {
		made, err := a.part(a.piece(index, i), object{"item_id": item["id"], "output_index": number(a.place(index)),
			"content_index": number(i)}, raw)
		if err != nil {
			return nil, err
		}
		parts[i] = made
	}
	item["content"] = encode(append([]json.RawMessage{}, parts...))
	return encode(item), nil
}
