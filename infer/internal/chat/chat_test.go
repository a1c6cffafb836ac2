package chat

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/jinja"
)

// Templates written for these tests, in the idioms of the families named.
const (
	// SmolLM2: the exact text in the model file.
	smolLM2 = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

	// Llama 2 and Mistral: system text inside the first user turn, roles that must alternate.
	llama2 = `{%- if messages[0]['role'] == 'system' -%}
{%- set loop_messages = messages[1:] -%}
{%- set system_message = '<<SYS>>\n' + messages[0]['content'].strip() + '\n<</SYS>>\n\n' -%}
{%- else -%}
{%- set loop_messages = messages -%}
{%- set system_message = '' -%}
{%- endif -%}
{%- for message in loop_messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('roles must alternate user/assistant') -}}
{%- endif -%}
{%- if loop.index0 == 0 -%}
{%- set content = system_message + message['content'] -%}
{%- else -%}
{%- set content = message['content'] -%}
{%- endif -%}
{%- if message['role'] == 'user' -%}
{{- bos_token + '[INST] ' + content | trim + ' [/INST]' -}}
{%- else -%}
{{- ' ' + content | trim + ' ' + eos_token -}}
{%- endif -%}
{%- endfor -%}`

	// Llama 3.2: a date, a namespace, blocks alone on their lines.
	llama3 = `{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- the system text comes first #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- raise_exception("no tools here") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}`

	// Qwen: absent tools, a namespace changed in a loop, a reversed list.
	qwen = `{%- if tools %}
    {{- '<|im_start|>system\n' + tools | tojson }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role + '\n' + message.content.split('</think>')[-1].lstrip('\n') + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}`

	// A Gemma whose roles must alternate as well.
	gemmaStrict = `{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}<start_of_turn>{{ message['content'] }}{% endfor %}`

	// Gemma: the assistant is called model.
	gemma = `{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}`
)

func TestRender(t *testing.T) {
	user := infer.Message{Role: infer.User, Content: " Hi! "}
	system := infer.Message{Role: infer.System, Content: "Be brief."}
	answer := infer.Message{Role: infer.Assistant, Content: "<think>hm</think>\nHello."}
	again := infer.Message{Role: infer.User, Content: "And?"}
	tests := []struct {
		name, template string
		messages       []infer.Message
		want           string
		err            string // part of the error
	}{
		{"SmolLM2", smolLM2, []infer.Message{user},
			"<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n Hi! <|im_end|>\n<|im_start|>assistant\n", ""},
		{"SmolLM2 with system", smolLM2, []infer.Message{system, user, answer, again},
			"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi! <|im_end|>\n<|im_start|>assistant\n<think>hm</think>\nHello.<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n", ""},
		{"Llama 2", llama2, []infer.Message{system, user}, "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi! [/INST]", ""},
		{"Llama 2, turns", llama2, []infer.Message{user, answer, again},
			"<s>[INST] Hi! [/INST] <think>hm</think>\nHello. </s><s>[INST] And? [/INST]", ""},
		{"Llama 2, two user turns", llama2, []infer.Message{user, again}, "", "roles must alternate"},
		{"Llama 3", llama3, []infer.Message{system, user},
			"<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 09 Oct 2026\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", ""},
		{"Qwen", qwen, []infer.Message{system, user, answer, again},
			"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi! <|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n", ""},
		{"Gemma", gemma, []infer.Message{user, answer, again},
			"<s><start_of_turn>user\nHi!<end_of_turn>\n<start_of_turn>model\n<think>hm</think>\nHello.<end_of_turn>\n<start_of_turn>user\nAnd?<end_of_turn>\n<start_of_turn>model\n", ""},
		{"Gemma with system", gemma, []infer.Message{system, user}, "", "it refuses the conversation: System role not supported"},
		{"macro", "{% macro turn(m) %}[{{ m.role }}]{{ m.content }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
			[]infer.Message{again}, "[user]And?", ""},
		{"generation", "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}|{% endif %}{% endfor %}",
			[]infer.Message{again, {Role: infer.Assistant, Content: "Yes."}}, "And?|Yes.", ""},
		{"trimmed blocks", "{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}", []infer.Message{again}, "And?\n", ""},
		{"syntax", "{% for %}", []infer.Message{user}, "", "line 1: "},
		{"unknown block", "{% frobnicate %}", []infer.Message{user}, "", "line 1: "},
		{"unclosed", "{% if true %}x", []infer.Message{user}, "", "line 1: "},
		{"no file access by include", "{% include '/etc/hostname' %}", []infer.Message{user}, "", "line 1: "},
		{"no file access by import", "{% import '/etc/hostname' as x %}", []infer.Message{user}, "", "line 1: "},
		{"no file access by extends", "{% extends '/etc/hostname' %}", []infer.Message{user}, "", "line 1: "},
		{"long range", "{% for i in range(1000000000000) %}{% endfor %}", []infer.Message{user}, "", "range too big"},
		{"long text", "{% for i in range(20) %}{{ messages[0].content }}{% endfor %}", []infer.Message{{Content: strings.Repeat("x", 1<<20)}}, "", "exceeds its limits"},
		{"string methods", "{{ ' Ab '.strip() }}|{{ 'xxabx'.lstrip('x') }}|{{ 'a,b,c'.split(',', 1)|join('+') }}|{{ ' a  b '.split()|length }}|{{ 'ab'.replace('a', 'x') }}|" +
			"{{ 'hello wORLD'.title() }}|{{ 'hELLO'.capitalize() }}|{{ 'abc'.endswith(('x', 'c')) }}|{{ '-'.join(['a', 'b']) }}|{{ 'äbc'.find('b') }}|{{ 'a\nb\n'.splitlines()|length }}",
			nil, "Ab|abx|a+b,c|2|xb|Hello World|Hello|True|a-b|1|2", ""},
		{"dict methods", "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ messages[0].get('none', 'no') }}", []infer.Message{again}, "role=user;content=And?;no", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Render(context.Background(), tt.template, Input{
				Messages: tt.messages, BOS: "<s>", EOS: "</s>", Now: time.Date(2026, 10, 9, 8, 7, 6, 0, time.UTC),
			})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want one line with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// TestSystemMessage: where a template refuses system messages, those of some families go into the first user message.
func TestSystemMessage(t *testing.T) {
	system, user := infer.Message{Role: infer.System, Content: "Be brief."}, infer.Message{Role: infer.User, Content: "Hi"}
	tests := []struct {
		name, template      string
		messages            []infer.Message
		want, warning, fail string
	}{
		{"Gemma 2", gemma, []infer.Message{system, user}, "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n",
			"the chat template refuses system messages (System role not supported): the system message is at the start of the first user message", ""},
		{"two user turns", gemmaStrict, []infer.Message{system, user, user}, "", "", "it refuses the conversation: System role not supported"},
		{"a system message alone", gemmaStrict, []infer.Message{system}, "", "", "it refuses the conversation: System role not supported"},
		{"another family", "{% if messages[0].role == 'system' %}{{ raise_exception('no\\nsystem') }}{% endif %}", []infer.Message{system, user},
			"", "", "it refuses the conversation: no system"},
	}
	for _, tt := range tests {
		template, err := Parse(tt.template)
		if err != nil {
			t.Fatal(err)
		}
		text, warning, err := template.Prompt(t.Context(), Input{Messages: tt.messages, BOS: "<s>"})
		fail := ""
		if err != nil {
			fail = err.Error()
		}
		if text != tt.want || warning != tt.warning || fail != tt.fail {
			t.Errorf("%s: got %q, warning %q, error %q", tt.name, text, warning, fail)
		}
	}
}

// TestLimits: what exceeds a bound is an error of this rendering alone, and nothing keeps running.
func TestLimits(t *testing.T) {
	loop := "{% for i in range(10000) %}"
	endless, err := Parse("{% if messages|length > 1 %}" + strings.Repeat(loop, 3) + strings.Repeat("{% endfor %}", 3) + "{% endif %}good")
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	many := []infer.Message{{Role: infer.User}, {Role: infer.User}}
	if _, _, err := endless.Prompt(context.Background(), Input{Messages: many}); err == nil || !strings.Contains(err.Error(), "limits") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := endless.Prompt(ctx, Input{Messages: many}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
	if text, _, err := endless.Prompt(context.Background(), Input{Messages: many[:1]}); err != nil || text != "good" {
		t.Errorf("the next conversation gives %q, %v", text, err)
	}
	if _, err := Parse(strings.Repeat(" ", jinja.MaxSource+1)); err == nil {
		t.Error("a huge template was accepted")
	}
}

// TestManyMessages: ordinary templates take time that grows with the number of messages, not with its square, which would
// exceed the bounds here.
func TestManyMessages(t *testing.T) {
	n := 200_000
	if testing.Short() { // under the race detector
		n = 20_000
	}
	messages := make([]infer.Message, n)
	for i := range messages {
		messages[i].Role = []string{infer.User, infer.Assistant}[i%2]
	}
	for name, source := range map[string]string{"SmolLM2": smolLM2, "Qwen": qwen} {
		template, err := Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		text, _, err := template.Prompt(context.Background(), Input{Messages: messages, BOS: "<s>", EOS: "</s>", Now: time.Unix(0, 0)})
		if err != nil || len(text) < 5*n {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
}

// FuzzRender: any template yields text or one line of error.
func FuzzRender(f *testing.F) {
	for _, s := range []string{smolLM2, llama2, llama3, qwen, gemma} {
		f.Add(s)
	}
	in := Input{Messages: []infer.Message{{Role: infer.System, Content: "x"}, {Role: infer.User, Content: "x"}}}
	f.Fuzz(func(t *testing.T, source string) {
		template, err := Parse(source)
		if err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _, err = template.Prompt(ctx, in)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error of several lines: %q", err)
		}
	})
}
