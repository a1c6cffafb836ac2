package jinja

import (
	"slices"
	"strconv"
	"strings"
)

// tuple parses an expression, or several with commas between them.
func (p *parser) tuple(conditional bool, ends []string) (expr, error) {
	var items []expr
	isTuple := false
	for {
		if len(items) > 0 {
			if !p.skipOp(",") {
				break
			}
			isTuple = true
		}
		if k := p.peek().kind; k == variableEnd || k == blockEnd || p.isOp(")") || p.isName(ends...) {
			break
		}
		e, err := p.expression(conditional)
		if err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	switch {
	case isTuple:
		return tupleExpr{items}, nil
	case len(items) == 0:
		return nil, p.fail("expected an expression, got %v", p.peek())
	}
	return items[0], nil
}

func (p *parser) expression(conditional bool) (expr, error) {
	leave, err := p.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	e, err := p.or()
	if err != nil || !conditional {
		return e, err
	}
	for n := 0; p.skipName("if"); {
		if err := p.link(&n); err != nil {
			return nil, err
		}
		test, err := p.or()
		if err != nil {
			return nil, err
		}
		c := condExpr{then: e, test: test}
		if p.skipName("else") {
			if c.otherwise, err = p.expression(true); err != nil {
				return nil, err
			}
		}
		e = c
	}
	return e, nil
}

func (p *parser) or() (expr, error)  { return p.logic("or", p.and) }
func (p *parser) and() (expr, error) { return p.logic("and", p.not) }

// logic parses operands with "and" or with "or" between them, from left to right.
func (p *parser) logic(word string, operand func() (expr, error)) (expr, error) {
	left, err := operand()
	for n := 0; err == nil && p.skipName(word); {
		var right expr
		if right, err = operand(); err == nil {
			err = p.link(&n)
		}
		left = logic{word == "and", left, right}
	}
	return left, err
}

func (p *parser) not() (expr, error) {
	if p.isName("not") && (p.ahead().kind != name || p.ahead().text != "in") {
		leave, err := p.enter()
		if err != nil {
			return nil, err
		}
		defer leave()
		p.take()
		e, err := p.not()
		return not{e}, err
	}
	return p.comparison()
}

func (p *parser) comparison() (expr, error) {
	first, err := p.sum()
	if err != nil {
		return nil, err
	}
	c := comparison{first: first}
	for {
		t := p.peek()
		op := ""
		switch {
		case t.kind == operator && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text):
			op = t.text
			p.take()
		case p.isName("in"):
			op = "in"
			p.take()
		case p.isName("not") && p.ahead().kind == name && p.ahead().text == "in":
			op = "not in"
			p.take()
			p.take()
		}
		if op == "" {
			break
		}
		e, err := p.sum()
		if err != nil {
			return nil, err
		}
		c.ops, c.rest = append(c.ops, op), append(c.rest, e)
	}
	if len(c.ops) == 0 {
		return first, nil
	}
	return c, nil
}

// chain parses operands with operators of one precedence between them, from left to right.
func (p *parser) chain(operand func() (expr, error), ops ...string) (expr, error) {
	left, err := operand()
	for n := 0; err == nil && p.peek().kind == operator && slices.Contains(ops, p.peek().text); {
		op := p.take().text
		var right expr
		if right, err = operand(); err == nil {
			err = p.link(&n)
		}
		left = binary{op, left, right}
	}
	return left, err
}

func (p *parser) sum() (expr, error)     { return p.chain(p.concat, "+", "-") }
func (p *parser) product() (expr, error) { return p.chain(p.power, "*", "/", "//", "%") }
func (p *parser) power() (expr, error) {
	return p.chain(func() (expr, error) { return p.unary(true) }, "**")
}

func (p *parser) concat() (expr, error) {
	first, err := p.product()
	if err != nil || !p.isOp("~") {
		return first, err
	}
	c := concat{[]expr{first}}
	for p.skipOp("~") {
		e, err := p.product()
		if err != nil {
			return nil, err
		}
		c.items = append(c.items, e)
	}
	return c, nil
}

func (p *parser) unary(filters bool) (expr, error) {
	leave, err := p.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	var e expr
	if p.isOp("-") || p.isOp("+") {
		minus := p.take().text == "-"
		e, err = p.unary(false)
		e = unary{minus, e}
	} else {
		e, err = p.primary()
	}
	if err != nil {
		return nil, err
	}
	if e, err = p.postfix(e); err != nil || !filters {
		return e, err
	}
	return p.filters(e, false)
}

func (p *parser) primary() (expr, error) {
	t := p.peek()
	switch t.kind {
	case name:
		p.take()
		switch t.text {
		case "true", "True":
			return constant{true}, nil
		case "false", "False":
			return constant{false}, nil
		case "none", "None":
			return constant{nil}, nil
		}
		return nameExpr{t.text}, nil
	case stringLiteral:
		s := p.take().text
		for p.peek().kind == stringLiteral {
			s += p.take().text
		}
		return constant{s}, nil
	case integerLiteral:
		i, err := strconv.ParseInt(strings.ReplaceAll(t.text, "_", ""), intBase(t.text), 64)
		if err != nil {
			return nil, p.fail("integer %s is out of range", t.text)
		}
		p.take()
		return constant{i}, nil
	case floatLiteral:
		f, _ := strconv.ParseFloat(strings.ReplaceAll(t.text, "_", ""), 64) // beyond the range: infinite, as in Python
		p.take()
		return constant{f}, nil
	case operator:
		switch t.text {
		case "(":
			p.take()
			if p.skipOp(")") {
				return tupleExpr{}, nil
			}
			e, err := p.tuple(true, nil)
			if err != nil {
				return nil, err
			}
			return e, p.expectOp(")")
		case "[":
			p.take()
			items, err := p.items("]")
			return listExpr{items}, err
		case "{":
			p.take()
			return p.dict()
		}
	default: // nothing for the others
	}
	return nil, p.unexpected()
}

func intBase(s string) int {
	if len(s) > 1 && s[0] == '0' && s[1]|0x20 >= 'a' {
		return 0
	}
	return 10
}

// items parses expressions with commas up to a closing mark.
func (p *parser) items(end string) ([]expr, error) {
	var out []expr
	for !p.skipOp(end) {
		if len(out) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp(end) {
				break
			}
		}
		e, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func (p *parser) dict() (expr, error) {
	var d dictExpr
	for !p.skipOp("}") {
		if len(d.keys) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp("}") {
				break
			}
		}
		k, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		if err := p.expectOp(":"); err != nil {
			return nil, err
		}
		v, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, k), append(d.values, v)
	}
	return d, nil
}

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
