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
