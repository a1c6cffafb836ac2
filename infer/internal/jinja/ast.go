package jinja

// Expressions.
type (
	expr interface{}

	constant  struct{ v value }
	nameExpr  struct{ name string }
	listExpr  struct{ items []expr }
	tupleExpr struct{ items []expr }
	dictExpr  struct{ keys, values []expr }
	condExpr  struct{ then, test, otherwise expr } // otherwise may be nil
	logic     struct {
		and         bool
		left, right expr
	}
	not   struct{ e expr }
	unary struct {
		minus bool
		e     expr
	}
	binary struct {
		op          string
		left, right expr
	}
	concat     struct{ items []expr }
	comparison struct {
		first expr
		ops   []string
		rest  []expr
	}
	getAttr struct {
		e    expr
		name string
	}
	getItem struct{ e, key expr }
	slicing struct{ start, stop, step expr } // each may be nil; only as a key
	call    struct {
		f    expr
		args callArgs
	}
	filter struct {
		e    expr // nil in a filter block: the block's text
		name string
		args callArgs
	}
	test struct {
		e      expr
		name   string
		args   callArgs
		negate bool
	}
)

type callArgs struct {
	positional  []expr
	names       []string
	named       []expr
	star, twice expr // *args and **kwargs, nil if absent
}

// Statements.
type (
	stmt interface{}

	text    struct{ s string }
	output  struct{ e expr }
	forStmt struct {
		target     expr
		over, when expr // when may be nil
		recursive  bool
		body, none []stmt
	}
	ifStmt struct {
		branches []branch
		none     []stmt
	}
	branch struct {
		line int
		test expr
		body []stmt
	}
	setStmt  struct{ target, e expr }
	setBlock struct {
		target expr
		filter expr // nil, or a chain of filters on nil
		body   []stmt
	}
	setAttr   struct{ namespace, name string } // target only
	macroStmt struct {
		name     string
		params   []string
		defaults []expr // of the last parameters
		// The body uses arguments beyond the parameters.
		varargs, kwargs bool
		body            []stmt
	}
	callBlock struct {
		call *call
		m    *macroStmt // the caller: parameters and body
	}
	filterBlock struct {
		filter expr
		body   []stmt
	}
	withStmt struct {
		targets []expr
		values  []expr
		body    []stmt
	}
	scoped    struct{ body []stmt } // block and generation
	breakStmt struct{}
	nextStmt  struct{}

	located struct {
		line int
		s    stmt
	}
)
