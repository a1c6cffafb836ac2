package chat

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/lathe-llm/lathe/infer"
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
		{"Gemma with system", gemma, []infer.Message{system, user}, "", "System role not supported"},
		{"macro", "{% macro turn(m) %}[{{ m.role }}]{{ m.content }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
			[]infer.Message{again}, "[user]And?", ""},
		{"generation", "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}|{% endif %}{% endfor %}",
			[]infer.Message{again, {Role: infer.Assistant, Content: "Yes."}}, "And?|Yes.", ""},
		{"trimmed blocks", "{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}", []infer.Message{again}, "And?\n", ""},
		{"syntax", "{% for %}", []infer.Message{user}, "", "cannot be parsed"},
		{"unknown block", "{% frobnicate %}", []infer.Message{user}, "", "cannot be parsed"},
		{"unclosed", "{% if true %}x", []infer.Message{user}, "", "cannot be parsed"},
		{"no file access by include", "{% include '/etc/hostname' %}", []infer.Message{user}, "", "cannot be parsed"},
		{"no file access by import", "{% import '/etc/hostname' as x %}", []infer.Message{user}, "", "cannot be parsed"},
		{"no file access by extends", "{% extends '/etc/hostname' %}", []infer.Message{user}, "", "cannot be parsed"},
		{"long range", "{% for i in range(1000000000000) %}{% endfor %}", []infer.Message{user}, "", "range of more"},
		{"long text", "{% for i in range(20) %}{{ messages[0].content }}{% endfor %}", []infer.Message{{Content: strings.Repeat("x", 1<<20)}}, "", "more than 16 MiB"},
		{"string methods", "{{ ' Ab '.strip() }}|{{ 'xxabx'.lstrip('x') }}|{{ 'a,b,c'.split(',', 1)|join('+') }}|{{ ' a  b '.split()|length }}|{{ 'ab'.replace('a', 'x') }}|" +
			"{{ 'hello wORLD'.title() }}|{{ 'hELLO'.capitalize() }}|{{ 'abc'.endswith(('x', 'c')) }}|{{ '-'.join(['a', 'b']) }}|{{ 'äbc'.find('b') }}|{{ 'a\nb\n'.splitlines()|length }}",
			nil, "Ab|abx|a+b,c|2|xb|Hello World|Hello|True|a-b|1|2", ""},
		{"dict methods", "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ messages[0].get('none', 'no') }}", []infer.Message{again}, "content=And?;role=user;no", ""},
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

// TestRunaway renders a template that loops for hours without output. The loops end with the test binary.
func TestRunaway(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	loop := "{% for i in range(100000) %}"
	_, err := Render(ctx, strings.Repeat(loop, 3)+strings.Repeat("{% endfor %}", 3), Input{})
	if !errors.Is(err, ErrRunaway) {
		t.Errorf("got %v", err)
	}
	if _, err := Render(context.Background(), strings.Repeat(" ", MaxTemplate+1), Input{}); err == nil {
		t.Error("a huge template was rendered")
	}
}

// TestNormalise holds cases of trim_blocks and lstrip_blocks from Jinja's documentation.
func TestNormalise(t *testing.T) {
	tests := [][2]string{
		{"a\n", "a"},
		{"a\n\n", "a\n"},
		{"{% if x %}\nyay\n{% endif %}\n", "{% if x %}yay\n{% endif %}"},
		{"  {% if x %}\n  yay\n  {% endif %}\nb", "{% if x %}  yay\n{% endif %}b"},
		{"a {% if x %}\n", "a {% if x %}"},
		{"  {%+ if x +%}\nb", "  {%+ if x +%}\nb"},
		{"  {%- if x -%}\nb", "  {%- if x -%}\nb"},
		{"  {{ x }}\n  {# c #}\nb", "  {{ x }}\n{# c #}b"},
		{"{% if x == '%}' %}\nb", "{% if x == '%}' %}b"},
		{"{{ '\\'}}' }}\nb", "{{ '\\'}}' }}\nb"},
		{"{{ m[::-1] ~ '[::-1]' }}", "{{ m|reverse ~ '[::-1]' }}"},
		{"{# '", "{# '"},
		{"{{}}", "{{}}"},
		{"a\r\nb", "a\nb"},
	}
	for _, tt := range tests {
		if got := normalise(tt[0]); got != tt[1] {
			t.Errorf("%q becomes %q, want %q", tt[0], got, tt[1])
		}
	}
}

func TestPlainChatML(t *testing.T) {
	got := PlainChatML([]infer.Message{{Role: infer.User, Content: "Hi"}})
	if want := "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestStrftime(t *testing.T) {
	now := time.Date(2026, 3, 5, 14, 7, 9, 0, time.UTC)
	if got, want := strftime(now, "%d %b %Y, %A %H:%M:%S %I%p %F %j 100%% %Q %"), "05 Mar 2026, Thursday 14:07:09 02PM 2026-03-05 064 100% %Q %"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzRender: any template yields text or one line of error.
func FuzzRender(f *testing.F) {
	for _, s := range []string{smolLM2, llama2, llama3, qwen, gemma} {
		f.Add(s)
	}
	in := Input{Messages: []infer.Message{{Role: infer.User, Content: "x"}}}
	f.Fuzz(func(t *testing.T, template string) {
		if strings.Count(template, "for") > 1 {
			t.Skip("nested loops take up to the bound")
		}
		if _, err := Render(context.Background(), template, in); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error of several lines: %q", err)
		}
	})
}

// FuzzNormalise: only white space and reversed slices change.
func FuzzNormalise(f *testing.F) {
	for _, s := range []string{smolLM2, llama2, llama3, qwen, gemma} {
		f.Add(s)
	}
	bare := func(s string) string {
		s = strings.Map(func(r rune) rune {
			if unicode.IsSpace(r) {
				return -1
			}
			return r
		}, s)
		return strings.ReplaceAll(s, "[::-1]", "|reverse")
	}
	f.Fuzz(func(t *testing.T, template string) {
		if got := normalise(template); bare(got) != bare(template) {
			t.Errorf("%q becomes %q", template, got)
		}
	})
}
