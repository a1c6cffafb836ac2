package decoder

import (
	"context"
	"errors"
	"fmt"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/decoder/weights"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// ErrStale is returned for inputs whose states have advanced since, and for states that an error left partly advanced.
var ErrStale = errors.New("decoder: states have advanced")

var errOtherStates = errors.New("decoder: states of another model")

// States holds the residual stream of every calibration window, [tokens, hidden] each, between two blocks.
type States struct {
	m       *Model
	lengths []int
	batches []batch
	hidden  *weights.Store // by batch
	moves   int            // how often they advanced
	broken  error
}

// NewStates embeds the windows. The caller must Close them.
func (m *Model) NewStates(ctx context.Context, windows [][]int32) (*States, error) {
	st := &States{m: m}
	for i, w := range windows {
		if len(w) == 0 {
			return nil, fmt.Errorf("decoder: window %d is empty", i)
		}
		st.lengths = append(st.lengths, len(w))
	}
	st.batches = m.batches(st.lengths)
	st.hidden = weights.NewStore(memory{m.dev}, len(st.batches), m.opts.memory, m.opts.dir)
	for i, b := range st.batches {
		x, err := m.embed(ctx, windowsOf(windows, b)...)
		if err == nil {
			err = st.hidden.Put(i, x)
		}
		if err != nil {
			st.Close()
			return nil, err
		}
	}
	return st, nil
}

// Windows returns the number of windows.
func (st *States) Windows() int { return len(st.lengths) }

// Tokens returns the number of tokens of all windows.
func (st *States) Tokens() int {
	var n int
	for _, l := range st.lengths {
		n += l
	}
	return n
}

// Clone copies the states, so that both can advance separately. The caller must Close the copy.
func (st *States) Clone(ctx context.Context) (*States, error) {
	if err := st.usable(); err != nil {
		return nil, err
	}
	c := &States{m: st.m, lengths: st.lengths, batches: st.batches, hidden: weights.NewStore(memory{st.m.dev}, len(st.batches), st.m.opts.memory, st.m.opts.dir)}
	for i := range st.batches {
		err := st.hidden.Use(i, func(x *tensors.Tensor) error {
			y, err := st.m.dev.run1(ctx, "copy", identity, x)
			if err != nil {
				return err
			}
			return c.hidden.Put(i, y)
		})
		if err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Hidden copies the residual stream of a window to the host, [tokens, hidden].
func (st *States) Hidden(window int) ([]float32, error) {
	if err := st.usable(); err != nil {
		return nil, err
	}
	at, i := st.find(window)
	var out []float32
	err := st.hidden.Use(at, func(x *tensors.Tensor) (err error) {
		out, err = st.m.dev.fetch(x)
		return err
	})
	if err != nil {
		return nil, err
	}
	return part(out, st.batches[at], i), nil
}

// find returns the batch of a window, and which of its windows that is.
func (st *States) find(window int) (at, i int) {
	for at, b := range st.batches {
		if window < b.first+b.windows {
			return at, window - b.first
		}
	}
	panic(fmt.Sprintf("decoder: window %d of %d", window, len(st.lengths)))
}

// part returns the numbers of a batch's window i.
func part(all []float32, b batch, i int) []float32 {
	n := len(all) / b.windows
	return all[i*n : (i+1)*n]
}

// Close frees the states.
func (st *States) Close() {
	st.hidden.Close()
	if st.broken == nil {
		st.broken = ErrClosed
	}
}

func (st *States) usable() error {
	if st.broken != nil {
		return fmt.Errorf("%w: %w", ErrStale, st.broken)
	}
	return nil
}

// advance replaces the states of every batch by what step returns for them, which may be its argument. After an error the states
// are unusable.
func (st *States) advance(step func(at int, x *tensors.Tensor) (*tensors.Tensor, error)) error {
	if err := st.usable(); err != nil {
		return err
	}
	st.moves++
	for i := range st.batches {
		var next *tensors.Tensor
		err := st.hidden.Use(i, func(x *tensors.Tensor) error {
			y, err := step(i, x)
			if err == nil && y != x {
				next = y
			}
			return err
		})
		if err == nil && next != nil {
			err = st.hidden.Put(i, next)
		}
		if err != nil {
			st.broken = err
			return err
		}
	}
	return nil
}

// Advance passes the states through a whole layer of s.
func (m *Model) Advance(ctx context.Context, layer int, s *Subnet, st *States) error {
	if err := m.checkStep(layer, s, st); err != nil {
		return err
	}
	return st.advance(func(at int, x *tensors.Tensor) (*tensors.Tensor, error) {
		return m.passLayer(ctx, s, layer, x, st.batches[at].windows)
	})
}

// AdvanceBlock passes the states through the attention or the MLP of a layer of s.
func (m *Model) AdvanceBlock(ctx context.Context, layer int, module subnet.Module, s *Subnet, st *States) error {
	if err := m.checkStep(layer, s, st); err != nil {
		return err
	}
	return st.advance(func(at int, x *tensors.Tensor) (*tensors.Tensor, error) {
		if module == subnet.Attention {
			return m.passAttention(ctx, s.attention[layer], x, st.batches[at].windows)
		}
		return m.passMLP(ctx, s.mlp[layer], x)
	})
}

// passLayer returns x, the states of so many windows, after a layer of s; x itself where the layer adds nothing.
func (m *Model) passLayer(ctx context.Context, s *Subnet, layer int, x *tensors.Tensor, windows int) (*tensors.Tensor, error) {
	y, err := m.passAttention(ctx, s.attention[layer], x, windows)
	if err != nil {
		return nil, err
	}
	z, err := m.passMLP(ctx, s.mlp[layer], y)
	if y != x && z != y {
		free(y)
	}
	return z, err
}

// checkStep returns an error for arguments that are not of one model.
func (m *Model) checkStep(layer int, s *Subnet, st *States) error {
	if err := m.checkLayer(layer); err != nil {
		return err
	}
	if st.m != m {
		return errOtherStates
	}
	if s == nil {
		return nil
	}
	return m.check(s)
}
