package explorer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// measureAll takes several measurements, by workers where there are any.
func (e *Exploration) measureAll(ctx context.Context, a Actor, c MeasureAll, m *monitor) error {
	var failed error
	if !c.Machines.On() {
		for i, of := range c.Of {
			if err := m.Gate(ctx); err != nil {
				return err
			}
			m.name(fmt.Sprintf("%d of %d", i+1, len(c.Of)))
			if err := e.measure(ctx, a, of, nil, m); err != nil {
				if ctx.Err() != nil {
					return err
				}
				failed = errors.Join(failed, fmt.Errorf("%s: %w", e.Snapshot().label(of.Subnet), err))
			}
		}
		return failed
	}
	ask := make([]ScoreRequest, len(c.Of))
	for i, of := range c.Of {
		masks, err := e.Snapshot().Masks(of.Subnet)
		if err != nil {
			return err
		}
		if of, _, err = of.against(masks); err != nil {
			return err
		}
		ask[i] = of.request(0)
	}
	load := func(ctx context.Context, i int) (gguf.Subnet, error) { return e.loadSubnet(ctx, c.Of[i].Subnet) }
	err := e.model.ScoreAll(ctx, load, ask, c.Machines, m, func(i int, got Measurement, err error) error {
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", e.Snapshot().label(c.Of[i].Subnet), err))
			return nil
		}
		of, err := load(ctx, i)
		if err != nil {
			return err
		}
		got.At, got.By, got.Share = e.now().UTC(), a.Name, of.Masks.Size().Ratio
		return e.measure(ctx, a, c.Of[i], &got, m)
	})
	if err != nil {
		return err
	}
	return failed
}

// against returns the measurement as it is taken of masks: one with a smaller vocabulary is not compared with the dense model's distributions,
// but with its bits per byte where bits is set.
func (c Measure) against(masks subnet.Masks) (_ Measure, bits bool, err error) {
	if masks.TrimsVocab() && c.Against != "" {
		if c.Against != AgainstDense {
			return c, false, fmt.Errorf("%w: distributions over %d and %d tokens do not compare: measure without a reference, in bits per byte", ErrUnsupported, masks.VocabLen(), masks.Geometry().Vocab)
		}
		c.Against, bits = "", true
	}
	return c, bits, nil
}

// request is what a backend is asked for, with so many bytes of the text where span is not 0.
func (c Measure) request(span int64) ScoreRequest {
	return ScoreRequest{
		Text: c.Text, Seq: c.Seq, Windows: c.Windows, HeldOut: c.Text == "", Engine: c.Engine, Type: c.Type, BOS: c.BOS,
		Stride: c.Stride, Against: c.Against, Span: span,
	}
}

// measure takes a measurement, unless it was taken already, and records it with what it is compared with.
func (e *Exploration) measure(ctx context.Context, a Actor, c Measure, taken *Measurement, m *monitor) error {
	version := e.Snapshot().Draft.Version
	masks, err := e.Snapshot().Masks(c.Subnet)
	if err != nil {
		return err
	}
	c, bits, err := c.against(masks)
	if err != nil {
		return err
	}
	var got Measurement
	var subject gguf.Subnet
	if taken != nil {
		got = *taken
		subject, err = e.loadSubnet(ctx, c.Subnet)
	} else {
		got, subject, err = e.score(ctx, a, c, 0, m)
	}
	if err != nil {
		return err
	}
	if masks.TrimsVocab() {
		return e.measuredTrimmed(ctx, a, c, got, version, bits || c.Text == "", m)
	}
	// On the default text, on which subnets are compared, the dense model is measured too.
	if _, known := e.Snapshot().dense(got.Conditions); !known && got.Dense == 0 && c.Text == "" && c.Subnet != DenseID {
		of := c
		of.Subnet, of.Against = DenseID, ""
		dense, _, err := e.score(ctx, a, of, 0, m)
		if err == nil {
			err = e.measured(ctx, a, DenseID, version, dense, m)
		}
		if err != nil {
			return err
		}
	}
	if dense, known := e.Snapshot().dense(got.Conditions); known && c.Subnet != DenseID {
		got.Dense = dense
	}
	if err := e.measured(ctx, a, c.Subnet, version, got, m); err != nil {
		return err
	}
	if c.Subnet != DenseID && c.Subnet != DraftID {
		m.show(func(j *Job) { j.Result = c.Subnet })
	}
	return e.compare(ctx, a, subject, got, m)
}

// measuredTrimmed records the measurement of a subnet whose vocabulary was trimmed, and measures the dense model on the same bytes where that
// is wanted and not known: as many of its windows are of more text.
func (e *Exploration) measuredTrimmed(ctx context.Context, a Actor, c Measure, got Measurement, version uint64, dense bool, m *monitor) error {
	if _, known := e.Snapshot().denseBits(got); !known && dense {
		of := c
		of.Subnet, of.Type = DenseID, ""
		reference, _, err := e.score(ctx, a, of, got.Bytes, m)
		if err == nil {
			err = e.measured(ctx, a, DenseID, version, reference, m)
		}
		if err != nil {
			return err
		}
		got.DenseBits = reference.BitsPerByte()
	} else {
		got.DenseBits, _ = e.Snapshot().denseBits(got)
	}
	if err := e.measured(ctx, a, c.Subnet, version, got, m); err != nil {
		return err
	}
	if c.Subnet != DraftID {
		m.show(func(j *Job) { j.Result = c.Subnet })
	}
	return nil
}

// score takes one measurement, of so many bytes of the text where span is not 0, and returns the subnet that it measured.
func (e *Exploration) score(ctx context.Context, a Actor, c Measure, span int64, m *monitor) (Measurement, gguf.Subnet, error) {
	subject, err := e.loadSubnet(ctx, c.Subnet)
	if err != nil {
		return Measurement{}, subject, err
	}
	began := e.now()
	got, err := e.model.Score(ctx, subject, c.request(span), m)
	got.At, got.Seconds, got.By = e.now().UTC(), e.now().Sub(began).Seconds(), a.Name
	got.Share = subject.Masks.Size().Ratio
	return got, subject, err
}

// dense is the dense model's perplexity under given conditions.
func (s *Snapshot) dense(c Conditions) (float64, bool) {
	i := slices.IndexFunc(s.Model.Measurements, func(m Measurement) bool { return m.Conditions == c })
	if i < 0 {
		return 0, false
	}
	return s.Model.Measurements[i].Perplexity, true
}

// measured records a measurement. A model that is itself a cut is not its own dense reference.
func (e *Exploration) measured(ctx context.Context, a Actor, id SubnetID, version uint64, got Measurement, m *monitor) error {
	e.refresh()
	if id == DenseID && e.Snapshot().Model.SubnetOf == "" {
		got.Dense = got.Perplexity
	}
	if id != DraftID {
		return m.record(ctx, a, func(*Snapshot) ([]record, error) {
			return []record{{Measured: &measuredRecord{Subnet: id, Measurement: got}}}, nil
		})
	}
	e.update(SectionDraft, func(s *Snapshot) { s.Draft.Measured, s.Draft.MeasuredVersion = &got, version })
	e.estimate()
	return nil
}

// refresh publishes the device that the model runs on and what computes linear algebra, which are known once it is loaded.
func (e *Exploration) refresh() {
	was := e.Snapshot().Model
	if now := e.model.Info(); now.Compute != was.Compute || now.Algebra != was.Algebra {
		e.update(SectionModel, func(s *Snapshot) { s.Model.Compute, s.Model.Algebra = now.Compute, now.Algebra })
	}
}

// follower measures the draft a moment after it was last changed.
type follower struct {
	e *Exploration

	mu    sync.Mutex
	timer *time.Timer
	job   JobID
	edits int // that it has seen
}

// settle is how long a draft has to rest before it is measured.
const settle = 700 * time.Millisecond

// changed restarts the wait for a draft that was edited, and stops the measurement of the earlier one.
func (f *follower) changed() {
	if f.e.options.MeasureDraft == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.edits++
	if f.timer == nil {
		f.timer = time.AfterFunc(settle, f.start)
	} else {
		f.timer.Reset(settle)
	}
	if f.job != "" {
		_ = f.e.jobs.Stop(string(f.job)) // it may have ended by itself
		f.job = ""
	}
}

// start measures the draft after the jobs that a person asked for, searches included.
func (f *follower) start() {
	f.mu.Lock()
	edits := f.edits
	f.mu.Unlock()
	s := f.e.Snapshot()
	if s.Draft.MeasuredVersion == s.Draft.Version {
		return
	}
	c := *f.e.options.MeasureDraft
	c.Subnet = DraftID
	receipt, err := c.launch(f.e, Actor{Role: RoleEditor}, jobs.Following)
	if err != nil {
		f.e.notify(Warning, "", "the draft was not measured: "+format.Error(err))
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.edits != edits { // the draft was edited meanwhile and is measured a moment later
		_ = f.e.jobs.Stop(string(receipt.Job))
		return
	}
	f.job = receipt.Job
}

// close ends it; the job that may run ends with the scheduler.
func (f *follower) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer.Stop()
	}
}
