package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer"
)

// toolCall is a call of a function, in requests and in answers. Index is set in streams alone.
type toolCall struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"` // JSON
	} `json:"function"`
}

// tools are those of a request: the objects as they came, and the names of the functions.
type tools struct {
	objects []json.RawMessage
	names   []string
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *tools) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	if json.Unmarshal(data, &t.objects) != nil {
		return wrong("tools", "an array of tools")
	}
	for i, raw := range t.objects {
		at := fmt.Sprintf("tools[%d]", i)
		var tool struct {
			Type     json.RawMessage `json:"type"`
			Function json.RawMessage `json:"function"`
		}
		var function struct {
			Name json.RawMessage `json:"name"`
		}
		var kind, name string
		switch {
		case !isObject(raw) || json.Unmarshal(raw, &tool) != nil:
			return wrong(at, "an object")
		case !given(tool.Type) || json.Unmarshal(tool.Type, &kind) != nil:
			return wrong(at+".type", "a string")
		case kind != "function":
			return wrong(at+".type", fmt.Sprintf("function: %q is not supported", kind))
		case !isObject(tool.Function) || json.Unmarshal(tool.Function, &function) != nil:
			return wrong(at+".function", "an object")
		case !given(function.Name) || json.Unmarshal(function.Name, &name) != nil:
			return wrong(at+".function.name", "a string")
		}
		t.names = append(t.names, name)
	}
	return nil
}

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// documents are objects for templates that render them; an extension.
type documents []json.RawMessage

// UnmarshalJSON implements [json.Unmarshaler].
func (d *documents) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	if json.Unmarshal(data, (*[]json.RawMessage)(d)) != nil {
		return wrong("documents", "an array of objects")
	}
	for i, raw := range *d {
		if !isObject(raw) {
			return wrong(fmt.Sprintf("documents[%d]", i), "an object")
		}
	}
	return nil
}

// decodeCalls decodes the calls of an assistant's message.
func decodeCalls(data json.RawMessage, at string) ([]infer.ToolCall, error) {
	var list []json.RawMessage
	if json.Unmarshal(data, &list) != nil {
		return nil, wrong(at, "an array of tool calls")
	}
	out := make([]infer.ToolCall, len(list))
	for i, raw := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		var call toolCall
		switch err := json.Unmarshal(raw, &call); {
		case !isObject(raw):
			return nil, wrong(at, "an object")
		case err != nil, call.Function.Name == "":
			return nil, wrong(at, "a call of a function: an id, a type and a function with a name and arguments")
		}
		arguments := json.RawMessage(call.Function.Arguments)
		if strings.TrimSpace(call.Function.Arguments) == "" {
			arguments = json.RawMessage("{}")
		}
		if !json.Valid(arguments) || !isObject(bytes.TrimSpace(arguments)) {
			return nil, wrong(at+".function.arguments", "a JSON object")
		}
		out[i] = infer.ToolCall{ID: call.ID, Name: call.Function.Name, Arguments: arguments}
	}
	return out, nil
}

// checkTools checks what a request asks of tools against what can be done: calls are read from replies as the model's template
// shows that it writes them, and no reply can be forced to be a call.
func (r chatRequest) checkTools(form callForm) error {
	switch choice := string(r.ToolChoice); {
	case given(r.Functions) && !bytes.Equal(r.Functions, []byte("[]")):
		return bad("functions are not supported; tools are")
	case given(r.ToolChoice) && choice != `"auto"` && choice != `"none"`:
		return wrong("tool_choice", "auto or none: a reply cannot be forced to call a tool")
	case r.ParallelCalls != nil && !*r.ParallelCalls:
		return wrong("parallel_tool_calls", "true: the number of calls cannot be limited")
	case r.withTools() && form == callsUnknown:
		return &apiError{400, "invalid_request_error", "tools are not supported for this model: its chat template does not show a form of calls that lathe reads", "tools"}
	}
	return nil
}

// withTools reports whether the model is offered tools.
func (r chatRequest) withTools() bool {
	return len(r.Tools.objects) > 0 && string(r.ToolChoice) != `"none"`
}

// callForm is how a model writes calls of tools.
type callForm int

const (
	callsUnknown callForm = iota
	callsTagged           // <tool_call>{"name": …, "arguments": …}</tool_call>
	callsListed           // [TOOL_CALLS] and a list of such objects, or NAME[ARGS]{…}
	callsBare             // the whole reply is {"name": …, "parameters": …}
)

const (
	tagOpen, tagClose = "<tool_call>", "</tool_call>"
	listMark, argMark = "[TOOL_CALLS]", "[ARGS]"
	pythonMark        = "<|python_tag|>"
)

// formOf returns the form of calls that a template shows.
func formOf(template string) callForm {
	switch {
	case strings.Contains(template, "<function="), strings.Contains(template, "<arg_key>"), !strings.Contains(template, "tools"):
		return callsUnknown // tags of names and arguments
	case strings.Contains(template, tagOpen):
		return callsTagged
	case strings.Contains(template, listMark):
		return callsListed
	case strings.Contains(template, `"parameters"`) && strings.Contains(template, "ipython"):
		return callsBare
	}
	return callsUnknown
}

// marks are control tokens that belong to a call, in the text that calls are read from.
func (f callForm) marks() []string {
	return [...][]string{callsUnknown: nil, callsTagged: {tagOpen, tagClose}, callsListed: {listMark, argMark, "[CALL_ID]"}, callsBare: {pythonMark}}[f]
}

// calls returns the calls in a reply and the text beside them. A reply that is not of the form, or that calls no function of the
// request, is text as a whole.
func (f callForm) calls(reply string, names []string) (text string, calls []infer.ToolCall) {
	switch f {
	case callsTagged:
		text, calls = tagged(reply)
	case callsListed:
		text, calls = listed(reply)
	case callsBare:
		calls = objects(strings.TrimPrefix(strings.TrimSpace(reply), pythonMark), ";")
	case callsUnknown:
	}
	for _, c := range calls {
		if !slices.Contains(names, c.Name) {
			return reply, nil
		}
	}
	if len(calls) == 0 {
		return reply, nil
	}
	return strings.TrimSpace(text), calls
}

// tagged reads calls between tags. It returns none if one of them is not a call.
func tagged(reply string) (text string, calls []infer.ToolCall) {
	var rest strings.Builder
	for {
		before, after, ok := strings.Cut(reply, tagOpen)
		rest.WriteString(before)
		if !ok {
			return rest.String(), calls
		}
		inner, behind, _ := strings.Cut(after, tagClose) // some models end their reply instead
		found := objects(inner, "")
		if len(found) == 0 {
			return "", nil
		}
		calls, reply = append(calls, found...), behind
	}
}

// listed reads what follows the mark of calls.
func listed(reply string) (text string, calls []infer.ToolCall) {
	text, rest, ok := strings.Cut(reply, listMark)
	if !ok {
		return "", nil
	}
	for one := range strings.SplitSeq(rest, listMark) {
		one = strings.TrimSpace(one)
		if strings.HasPrefix(one, "[") {
			var list []json.RawMessage
			if json.Unmarshal([]byte(one), &list) != nil {
				return "", nil
			}
			for _, raw := range list {
				found := objects(string(raw), "")
				if len(found) == 0 {
					return "", nil
				}
				calls = append(calls, found...)
			}
			continue
		}
		at := strings.IndexByte(one, '{')
		if at < 0 || !json.Valid([]byte(one[at:])) {
			return "", nil
		}
		name, id, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(one[:at]), argMark), "[CALL_ID]")
		calls = append(calls, infer.ToolCall{ID: strings.TrimSpace(id), Name: strings.TrimSpace(name), Arguments: json.RawMessage(one[at:])})
	}
	return text, calls
}

// objects reads calls that are JSON objects, one after the other with a text between them. It returns none if there is something else.
func objects(text, between string) (calls []infer.ToolCall) {
	for text = strings.TrimSpace(text); text != ""; {
		d := json.NewDecoder(strings.NewReader(text))
		var call struct {
			ID                    string
			Name                  string
			Arguments, Parameters json.RawMessage
		}
		if !strings.HasPrefix(text, "{") || d.Decode(&call) != nil || call.Name == "" {
			return nil
		}
		if call.Arguments == nil {
			call.Arguments = call.Parameters
		}
		var quoted string // some models write the arguments as a text
		if json.Unmarshal(call.Arguments, &quoted) == nil {
			call.Arguments = json.RawMessage(quoted)
		}
		if !isObject(call.Arguments) || !json.Valid(call.Arguments) {
			return nil
		}
		calls = append(calls, infer.ToolCall{ID: call.ID, Name: call.Name, Arguments: call.Arguments})
		text = strings.TrimSpace(text[d.InputOffset():])
		text = strings.TrimSpace(strings.TrimPrefix(text, between))
	}
	return calls
}

// answered returns the calls of a reply in the form of an answer.
func (h *Handler) answered(calls []infer.ToolCall, stream bool) []toolCall {
	out := make([]toolCall, len(calls))
	for i, c := range calls {
		call := toolCall{ID: c.ID, Type: "function"}
		if call.ID == "" {
			call.ID = h.newID("call")
		}
		var compact bytes.Buffer
		if json.Compact(&compact, c.Arguments) == nil {
			call.Function.Arguments = compact.String()
		}
		call.Function.Name = c.Name
		if stream {
			call.Index = &i
		}
		out[i] = call
	}
	return out
}
