// Package jinja renders the Jinja templates that model files carry for conversations, with the results of Python's
// Jinja2 3.1 as Hugging Face's transformers configures it: trim_blocks and lstrip_blocks, loop controls, the immutable
// sandbox, json.dumps for tojson, raise_exception, strftime_now and the generation block.
//
// [Parse] compiles a template once; [Template.Render] renders it any number of times, also concurrently. Values are those
// of Python: None, bool, int (64 bits), float, str (indexed by code point), list, tuple, dict in insertion order, and
// undefined, which prints as nothing and fails when it is used.
//
// Templates are untrusted programs. They read no file, no clock but the one given, and nothing else outside their variables.
// Nesting, recursion, steps, allocated bytes and output are bounded by [Limits], and rendering stops with the context.
// Nothing keeps running after an error.
//
// Includes, imports, inheritance, autoescaping, async and integers of more than 64 bits are not supported, since no known
// chat template uses them. All of them are errors. The filters safe and escape return ordinary strings.
package jinja
