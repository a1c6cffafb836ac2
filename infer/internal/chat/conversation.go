package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/jinja"
)

// maxNested bounds the depth of tools, documents and arguments.
const maxNested = 64

// Plain reports whether the conversation has no tools, documents, calls and results.
func (in Input) Plain() bool {
	for _, m := range in.Messages {
		if m.Calls != nil || m.Role == infer.Tool {
			return false
		}
	}
	return len(in.Tools) == 0 && len(in.Documents) == 0
}

// Texts returns the texts of the conversation: what people, programs and models wrote. An error is [infer.ErrInvalid].
func (in Input) Texts() (texts []string, err error) {
	in.Mark = func(s string) string {
		texts = append(texts, s)
		return s
	}
	_, err = in.variables()
	return texts, err
}

// variables returns the variables of a template that hold the conversation. An error is [infer.ErrInvalid].
func (in Input) variables() ([]jinja.Pair, error) {
	d := decoder{in.Mark}
	if d.mark == nil {
		d.mark = func(s string) string { return s }
	}
	messages := make([]any, len(in.Messages))
	for i, m := range in.Messages {
		message := []jinja.Pair{{Key: "role", Value: d.mark(m.Role)}, {Key: "content", Value: d.mark(m.Content)}}
		calls := make([]any, len(m.Calls))
		for j, call := range m.Calls {
			arguments, err := d.json(call.Arguments)
			if err != nil {
				return nil, fmt.Errorf("%w: message %d, call %d: arguments: %w", infer.ErrInvalid, i, j, err)
			}
			calls[j] = []jinja.Pair{
				{Key: "id", Value: d.mark(call.ID)}, {Key: "type", Value: "function"},
				{Key: "function", Value: []jinja.Pair{{Key: "name", Value: d.mark(call.Name)}, {Key: "arguments", Value: arguments}}},
			}
		}
		if len(calls) > 0 {
			message = append(message, jinja.Pair{Key: "tool_calls", Value: calls})
		}
		for _, p := range []struct{ key, text string }{{"tool_call_id", m.CallID}, {"name", m.Name}} {
			if p.text != "" {
				message = append(message, jinja.Pair{Key: p.key, Value: d.mark(p.text)})
			}
		}
		messages[i] = message
	}
	tools, err := d.objects("tool", in.Tools)
	if err != nil {
		return nil, err
	}
	documents, err := d.objects("document", in.Documents)
	return []jinja.Pair{{Key: "messages", Value: messages}, {Key: "tools", Value: tools}, {Key: "documents", Value: documents}}, err
}

// decoder decodes JSON to values of templates.
type decoder struct{ mark func(string) string }

// objects returns a list of values, None where there are none.
func (d decoder) objects(what string, list []json.RawMessage) (any, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := make([]any, len(list))
	for i, raw := range list {
		var err error
		if out[i], err = d.json(raw); err != nil {
			return nil, fmt.Errorf("%w: %s %d: %w", infer.ErrInvalid, what, i, err)
		}
	}
	return out, nil
}

// json decodes a value, objects with their keys in order.
func (d decoder) json(raw json.RawMessage) (any, error) {
	tokens := json.NewDecoder(bytes.NewReader(raw))
	tokens.UseNumber()
	return d.value(tokens, 0)
}

func (d decoder) value(tokens *json.Decoder, depth int) (any, error) {
	t, err := tokens.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case string:
		return d.mark(t), nil
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n, nil
		}
		return t.Float64()
	case json.Delim:
		if depth == maxNested {
			return nil, fmt.Errorf("nested deeper than %d", maxNested)
		}
		if t == '{' {
			return d.object(tokens, depth)
		}
		list := []any{}
		for tokens.More() {
			v, err := d.value(tokens, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = tokens.Token()
		return list, err
	}
	return t, nil
}

func (d decoder) object(tokens *json.Decoder, depth int) (any, error) {
	pairs := []jinja.Pair{}
	at := map[string]int{}
	for tokens.More() {
		t, err := tokens.Token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, errors.New("a key is not a string")
		}
		v, err := d.value(tokens, depth+1)
		if err != nil {
			return nil, err
		}
		if i, again := at[key]; again { // the last value counts, in the place of the first
			pairs[i].Value = v
			continue
		}
		at[key] = len(pairs)
		pairs = append(pairs, jinja.Pair{Key: d.mark(key), Value: v})
	}
	_, err := tokens.Token()
	return pairs, err
}
