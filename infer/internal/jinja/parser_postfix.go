package jinja

import (
	"slices"
	"strconv"
)

func (p *parser) postfix(e expr) (expr, error) {
	for n := 0; ; {
		if err := p.link(&n); err != nil {
			return nil, err
		}
		switch {
		case p.skipOp("."):
			t := p.take()
			switch t.kind {
			case name:
				e = getAttr{e, t.text}
			case integerLiteral:
				i, err := strconv.ParseInt(t.text, 10, 64)
				if err != nil {
					return nil, p.fail("integer %s is out of range", t.text)
				}
				e = getItem{e, constant{i}}
			default:
				return nil, p.fail("expected name or number, got %v", t)
			}
		case p.skipOp("["):
			key, err := p.subscript()
			if err != nil {
				return nil, err
			}
			e = getItem{e, key}
		case p.isOp("("):
			args, err := p.arguments()
			if err != nil {
				return nil, err
			}
			e = call{e, args}
		default:
			return e, nil
		}
	}
}

// subscript parses what is between brackets, and the closing one.
func (p *parser) subscript() (expr, error) {
	var items []expr
	for {
		e, err := p.subscribed()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
		if p.skipOp("]") {
			break
		}
		if err := p.expectOp(","); err != nil {
			return nil, err
		}
	}
	if len(items) == 1 {
		return items[0], nil
	}
	return tupleExpr{items}, nil
}

func (p *parser) subscribed() (expr, error) {
	var parts [3]expr
	n := 0
	if !p.isOp(":") {
		e, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		if !p.isOp(":") {
			return e, nil
		}
		parts[0] = e
	}
	for p.skipOp(":") {
		if n++; n > 2 {
			return nil, p.fail("a slice has at most three parts")
		}
		if p.isOp(":") || p.isOp("]") || p.isOp(",") {
			continue
		}
		var err error
		if parts[n], err = p.expression(true); err != nil {
			return nil, err
		}
	}
	return slicing{parts[0], parts[1], parts[2]}, nil
}

func (p *parser) arguments() (callArgs, error) {
	var a callArgs
	if err := p.expectOp("("); err != nil {
		return a, err
	}
	for first := true; !p.skipOp(")"); first = false {
		if !first {
			if err := p.expectOp(","); err != nil {
				return a, err
			}
			if p.skipOp(")") {
				break
			}
		}
		var err error
		switch {
		case p.skipOp("*"):
			if a.star != nil || a.twice != nil {
				return a, p.fail("invalid syntax for function call expression")
			}
			a.star, err = p.expression(true)
		case p.skipOp("**"):
			if a.twice != nil {
				return a, p.fail("invalid syntax for function call expression")
			}
			a.twice, err = p.expression(true)
		case p.peek().kind == name && p.ahead().kind == operator && p.ahead().text == "=":
			n := p.take().text
			p.take()
			if a.twice != nil || slices.Contains(a.names, n) {
				return a, p.fail("invalid syntax for function call expression")
			}
			var e expr
			e, err = p.expression(true)
			a.names, a.named = append(a.names, n), append(a.named, e)
		default:
			if a.star != nil || a.twice != nil || len(a.names) > 0 {
				return a, p.fail("invalid syntax for function call expression")
			}
			var e expr
			e, err = p.expression(true)
			a.positional = append(a.positional, e)
		}
		if err != nil {
			return a, err
		}
	}
	return a, nil
}

// filters parses filters, tests and calls behind an expression. At the start of a filter block the first has no mark.
func (p *parser) filters(e expr, start bool) (expr, error) {
	for n := 0; ; {
		if err := p.link(&n); err != nil {
			return nil, err
		}
		switch {
		case start || p.isOp("|"):
			if !start {
				p.take()
			}
			start = false
			n, err := p.dotted("filter name")
			if err != nil {
				return nil, err
			}
			f := filter{e: e, name: n}
			if p.isOp("(") {
				if f.args, err = p.arguments(); err != nil {
					return nil, err
				}
			}
			e = f
		case p.isName("is"):
			t, err := p.test(e)
			if err != nil {
				return nil, err
			}
			e = t
		case p.isOp("(") && e != nil:
			args, err := p.arguments()
			if err != nil {
				return nil, err
			}
			e = call{e, args}
		default:
			return e, nil
		}
	}
}

func (p *parser) dotted(what string) (string, error) {
	t, err := p.expect(name, what)
	n := t.text
	for err == nil && p.skipOp(".") {
		t, err = p.expect(name, what)
		n += "." + t.text
	}
	return n, err
}

func (p *parser) test(e expr) (expr, error) {
	p.take()
	t := test{e: e, negate: p.skipName("not")}
	var err error
	if t.name, err = p.dotted("test name"); err != nil {
		return nil, err
	}
	k := p.peek()
	switch {
	case p.isOp("("):
		t.args, err = p.arguments()
	case (k.kind == name && !p.isName("else", "or", "and", "if")) || k.kind == stringLiteral || k.kind == integerLiteral ||
		k.kind == floatLiteral || p.isOp("[") || p.isOp("{"):
		if p.isName("is") {
			return nil, p.fail("you cannot chain multiple tests with is")
		}
		var arg expr
		if arg, err = p.primary(); err == nil {
			arg, err = p.postfix(arg)
		}
		t.args.positional = []expr{arg}
	}
	return t, err
}
