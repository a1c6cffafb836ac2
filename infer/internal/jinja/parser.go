package jinja

import (
	"fmt"
	"slices"
	"strings"
)

// Bounds of a template's source.
const (
	MaxSource  = 1 << 20 // bytes; the longest known templates have about 20 kB
	maxNesting = 150     // of statements and expressions
	maxChain   = 1000    // operations in a row
)

// Template is a compiled template.
type Template struct{ body []stmt }

// Parse compiles a template. Errors are of type *[SyntaxError].
func Parse(source string) (*Template, error) {
	if len(source) > MaxSource {
		return nil, &SyntaxError{Line: 1, Problem: fmt.Sprintf("the template has %d bytes, more than %d", len(source), MaxSource)}
	}
	tokens, err := scan(source)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	body, err := p.statements()
	if err == nil && p.peek().kind != eof {
		err = p.unexpected()
	}
	if err != nil {
		return nil, err
	}
	return &Template{body}, nil
}

type parser struct {
	tokens []token
	at     int
	depth  int
	loops  int // for statements around the current position
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) ahead() token { return p.tokens[min(p.at+1, len(p.tokens)-1)] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if p.at < len(p.tokens)-1 {
		p.at++
	}
	return t
}

func (p *parser) isOp(op string) bool {
	t := p.peek()
	return t.kind == operator && t.text == op
}

func (p *parser) isName(names ...string) bool {
	t := p.peek()
	return t.kind == name && slices.Contains(names, t.text)
}

func (p *parser) skipOp(op string) bool {
	if p.isOp(op) {
		p.take()
		return true
	}
	return false
}

func (p *parser) skipName(n string) bool {
	if p.isName(n) {
		p.take()
		return true
	}
	return false
}

func (p *parser) fail(format string, args ...any) error {
	return &SyntaxError{Line: p.peek().line, Problem: fmt.Sprintf(format, args...)}
}

func (p *parser) unexpected() error { return p.fail("unexpected %v", p.peek()) }

func (p *parser) expectOp(op string) error {
	if !p.skipOp(op) {
		return p.fail("expected '%s', got %v", op, p.peek())
	}
	return nil
}

func (p *parser) expect(k kind, what string) (token, error) {
	if p.peek().kind != k {
		return token{}, p.fail("expected %s, got %v", what, p.peek())
	}
	return p.take(), nil
}

// link bounds a chain of operators, filters or attributes, each of which is nested in the next.
func (p *parser) link(n *int) error {
	if *n++; *n > maxChain {
		return p.fail("a chain of more than %d operations", maxChain)
	}
	return nil
}

// enter bounds the nesting; the function that it returns leaves.
func (p *parser) enter() (func(), error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.fail("the template is nested deeper than %d", maxNesting)
	}
	return func() { p.depth-- }, nil
}

// statements parses up to a block that begins with one of the end names, which stays, or to the end of the template.
func (p *parser) statements(ends ...string) ([]stmt, error) {
	leave, err := p.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	var out []stmt
	for {
		t := p.peek()
		switch t.kind {
		case eof:
			if len(ends) > 0 {
				return nil, p.fail("unexpected end of template, expected '%s'", strings.Join(ends, "' or '"))
			}
			return out, nil
		case data:
			p.take()
			out = append(out, text{t.text})
		case variableBegin:
			p.take()
			e, err := p.tuple(true, nil)
			if err != nil {
				return nil, err
			}
			if _, err := p.expect(variableEnd, "end of print statement"); err != nil {
				return nil, err
			}
			out = append(out, located{t.line, output{e}})
		case blockBegin:
			if n := p.ahead(); n.kind == name && slices.Contains(ends, n.text) {
				p.take()
				return out, nil
			}
			p.take()
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			out = append(out, located{t.line, s})
			if _, err := p.expect(blockEnd, "end of statement block"); err != nil {
				return nil, err
			}
		default:
			return nil, p.unexpected()
		}
	}
}

// body parses the rest of an opening tag, the statements, and the name of the closing tag, which it returns.
func (p *parser) body(ends ...string) ([]stmt, string, error) {
	if _, err := p.expect(blockEnd, "end of statement block"); err != nil {
		return nil, "", err
	}
	out, err := p.statements(ends...)
	if err != nil {
		return nil, "", err
	}
	return out, p.take().text, nil
}

func (p *parser) statement() (stmt, error) {
	t, err := p.expect(name, "tag name")
	if err != nil {
		return nil, err
	}
	switch t.text {
	case "for":
		return p.forStatement()
	case "if":
		return p.ifStatement()
	case "set":
		return p.setStatement()
	case "macro":
		return p.macroStatement()
	case "call":
		return p.callStatement()
	case "filter":
		f, err := p.filters(nil, true)
		if err != nil {
			return nil, err
		}
		body, _, err := p.body("endfilter")
		return filterBlock{f, body}, err
	case "with":
		return p.withStatement()
	case "generation":
		body, _, err := p.body("endgeneration")
		return scoped{body}, err
	case "block":
		n, err := p.expect(name, "block name")
		if err != nil {
			return nil, err
		}
		p.skipName("scoped")
		body, _, err := p.body("endblock")
		p.skipName(n.text)
		return scoped{body}, err
	case "break", "continue":
		if p.loops == 0 {
			return nil, p.fail("'%s' outside a loop", t.text)
		}
		if t.text == "break" {
			return breakStmt{}, nil
		}
		return nextStmt{}, nil
	case "include", "import", "from", "extends", "autoescape":
		return nil, p.fail("'%s' is not supported", t.text)
	}
	return nil, p.fail("unknown tag '%s'", t.text)
}

func (p *parser) forStatement() (stmt, error) {
	target, err := p.target(false)
	if err != nil {
		return nil, err
	}
	if !p.skipName("in") {
		return nil, p.fail("expected 'in', got %v", p.peek())
	}
	if names(target, "loop") {
		return nil, p.fail("cannot assign to the special variable 'loop'")
	}
	s := forStmt{target: target}
	if s.over, err = p.tuple(false, []string{"recursive"}); err != nil {
		return nil, err
	}
	if p.skipName("if") {
		if s.when, err = p.expression(true); err != nil {
			return nil, err
		}
	}
	s.recursive = p.skipName("recursive")
	p.loops++
	var end string
	s.body, end, err = p.body("endfor", "else")
	p.loops--
	if err == nil && end == "else" {
		s.none, _, err = p.body("endfor")
	}
	return s, err
}

// names reports whether a target assigns to a variable.
func names(target expr, n string) bool {
	switch t := target.(type) {
	case nameExpr:
		return t.name == n
	case tupleExpr:
		return slices.ContainsFunc(t.items, func(e expr) bool { return names(e, n) })
	}
	return false
}

// ifStatement parses an if with its branches: a long chain of elif is not nested.
func (p *parser) ifStatement() (stmt, error) {
	var s ifStmt
	for {
		test, err := p.tuple(false, nil)
		if err != nil {
			return nil, err
		}
		line := p.peek().line
		body, end, err := p.body("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		s.branches = append(s.branches, branch{line, test, body})
		switch end {
		case "endif":
			return s, nil
		case "else":
			s.none, _, err = p.body("endif")
			return s, err
		}
	}
}

func (p *parser) setStatement() (stmt, error) {
	target, err := p.target(true)
	if err != nil {
		return nil, err
	}
	if p.skipOp("=") {
		e, err := p.tuple(true, nil)
		return setStmt{target, e}, err
	}
	s := setBlock{target: target}
	if p.isOp("|") {
		if s.filter, err = p.filters(nil, false); err != nil {
			return nil, err
		}
	}
	s.body, _, err = p.body("endset")
	return s, err
}

// target parses what is assigned to: names, tuples of them and, in set, attributes of namespaces.
func (p *parser) target(attributes bool) (expr, error) {
	leave, err := p.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	var items []expr
	isTuple := false
	for {
		if p.skipOp("(") {
			inner, err := p.target(false)
			if err != nil {
				return nil, err
			}
			if err := p.expectOp(")"); err != nil {
				return nil, err
			}
			items = append(items, inner)
		} else {
			n, err := p.expect(name, "name to assign to")
			if err != nil {
				return nil, err
			}
			if slices.Contains([]string{"true", "false", "none", "True", "False", "None"}, n.text) {
				return nil, p.fail("cannot assign to '%s'", n.text)
			}
			if attributes && p.skipOp(".") {
				attr, err := p.expect(name, "attribute name")
				if err != nil {
					return nil, err
				}
				items = append(items, setAttr{n.text, attr.text})
			} else {
				items = append(items, nameExpr{n.text})
			}
		}
		if !p.skipOp(",") {
			break
		}
		isTuple = true
		if p.peek().kind != name && !p.isOp("(") || p.isName("in") {
			break
		}
	}
	if isTuple {
		return tupleExpr{items}, nil
	}
	return items[0], nil
}

// parameters parses "(a, b=1)".
func (p *parser) parameters(m *macroStmt) error {
	if err := p.expectOp("("); err != nil {
		return err
	}
	for !p.skipOp(")") {
		if len(m.params) > 0 {
			if err := p.expectOp(","); err != nil {
				return err
			}
			if p.skipOp(")") {
				return nil
			}
		}
		n, err := p.expect(name, "parameter name")
		if err != nil {
			return err
		}
		m.params = append(m.params, n.text)
		if p.skipOp("=") {
			e, err := p.expression(true)
			if err != nil {
				return err
			}
			m.defaults = append(m.defaults, e)
		} else if len(m.defaults) > 0 {
			return p.fail("a parameter without a default follows one with a default")
		}
	}
	return nil
}

func (p *parser) macroStatement() (stmt, error) {
	n, err := p.expect(name, "macro name")
	if err != nil {
		return nil, err
	}
	m := &macroStmt{name: n.text}
	if err := p.parameters(m); err != nil {
		return nil, err
	}
	return m, p.macroBody(m, "endmacro")
}

// macroBody parses a body that no loop outside reaches.
func (p *parser) macroBody(m *macroStmt, end string) (err error) {
	loops, from := p.loops, p.at
	p.loops = 0
	m.body, _, err = p.body(end)
	p.loops = loops
	for _, t := range p.tokens[from:p.at] {
		m.varargs = m.varargs || t.kind == name && t.text == "varargs"
		m.kwargs = m.kwargs || t.kind == name && t.text == "kwargs"
	}
	return err
}

func (p *parser) callStatement() (stmt, error) {
	m := &macroStmt{name: "caller"}
	if p.isOp("(") {
		if err := p.parameters(m); err != nil {
			return nil, err
		}
	}
	e, err := p.expression(true)
	if err != nil {
		return nil, err
	}
	c, ok := e.(call)
	if !ok {
		return nil, p.fail("expected a call")
	}
	return callBlock{&c, m}, p.macroBody(m, "endcall")
}

func (p *parser) withStatement() (stmt, error) {
	var s withStmt
	for p.peek().kind != blockEnd {
		if len(s.targets) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		n, err := p.expect(name, "name to assign to")
		if err != nil {
			return nil, err
		}
		if err := p.expectOp("="); err != nil {
			return nil, err
		}
		e, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		s.targets, s.values = append(s.targets, nameExpr{n.text}), append(s.values, e)
	}
	var err error
	s.body, _, err = p.body("endwith")
	return s, err
}
