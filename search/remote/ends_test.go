package remote_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lathe-llm/lathe/search/remote"
)

// TestSpentFilesGo has a worker fail on a piece whose file it has downloaded: the file does not stay.
func TestSpentFilesGo(t *testing.T) {
	s := newWorksite(t, func(o *remote.Options) { o.Own = "" })
	dir := t.TempDir()
	s.worker(func(c *childSettings) { c.FailsPiece, c.Shared, c.Address, c.Dir = 1, nil, s.server.Own(), dir })
	left := 0
	p := s.e.NewPieces(func(context.Context, int, remote.Product) error { return errors.New("a product") }, func(context.Context, int, string) error {
		left++
		return nil
	})
	piece := s.piece(1)
	if err := p.Add(1, "piece", piece); err != nil {
		t.Fatal(err)
	}
	p.End()
	if err := p.Run(t.Context()); err != nil || left != 1 {
		t.Errorf("%d left, error %v", left, err)
	}
	s.until("worker that has nothing to do", func(w []remote.Worker) bool { return w[0].State == remote.Idle && w[0].Failed == 3 })
	if found, err := filepath.Glob(filepath.Join(dir, piece.Files[0].SHA256+"*")); err != nil || len(found) > 0 {
		t.Errorf("%v are left: %v", found, err)
	}
}

// TestHeldTaskGoesOn has a worker hold a task of a phase that it has not heard of. Where the worker ends, or the search falls silent, another
// worker gets the task at once.
func TestHeldTaskGoesOn(t *testing.T) {
	for name, test := range map[string]struct {
		silence time.Duration
		end     func(search *nats.Conn, worker context.CancelFunc)
	}{
		"worker ends":          {patience, func(_ *nats.Conn, worker context.CancelFunc) { worker() }},
		"search fallen silent": {500 * time.Millisecond, func(search *nats.Conn, _ context.CancelFunc) { search.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newWorksite(t, func(o *remote.Options) { o.Timing.AckWait = patience })
			own, _ := streamsOf(t, s.server.Own())
			conn, js := streamsOf(t, s.server.Own())
			o := remote.Options{Conn: own, Spec: s.spec, Timing: quick()}
			o.Spec.Search, o.Timing.AckWait = remote.NewSearchID(), patience
			e, err := remote.New(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = e.Close() }()
			ctx, cancel := context.WithCancel(t.Context())
			timing := quick()
			timing.Silence = test.silence
			ended := make(chan error, 1)
			go func() {
				_, err := remote.Work(ctx, remote.WorkerOptions{
					Conn: conn, ID: "w1", Version: "v1", Device: "go", Weights: "f32", Timing: timing, Search: o.Spec.Search,
					Files: remote.Files{Shared: []string{filepath.Join(s.dir, "shared")}},
					Open: func(context.Context, remote.Spec, remote.Opened) (remote.Scorer, error) {
						return &scorer{s.l, childSettings{}}, nil
					},
				})
				ended <- err
			}()
			if _, err := js.Publish(t.Context(), "lathe."+o.Spec.Search+".task", []byte(`{"Phase":1,"Piece":{"Kind":"double"}}`)); err != nil {
				t.Fatal(err)
			}
			stream, err := js.Stream(t.Context(), "lathe-"+o.Spec.Search+"-tasks")
			if err != nil {
				t.Fatal(err)
			}
			queue, err := stream.Consumer(t.Context(), "workers")
			if err != nil {
				t.Fatal(err)
			}
			s.until("worker that holds the task", func([]remote.Worker) bool {
				info, err := queue.Info(t.Context())
				return err == nil && info.NumAckPending == 1
			})
			test.end(own, cancel)
			batch, err := queue.Fetch(1, jetstream.FetchMaxWait(10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for m := range batch.Messages() {
				n++
				if err := m.Ack(); err != nil {
					t.Error(err)
				}
			}
			if n != 1 {
				t.Errorf("%d tasks, error %v", n, batch.Error())
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCloseWithoutServer ends a search whose server is away: its error is that the server keeps what is stored there.
func TestCloseWithoutServer(t *testing.T) {
	s := newWorksite(t, nil)
	conn, err := remote.Dial(t.Context(), s.server.Own(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	o := remote.Options{Conn: conn, Spec: s.spec, Timing: quick()}
	o.Spec.Search = remote.NewSearchID()
	e, err := remote.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := e.Close(); !errors.Is(err, remote.ErrLeft) {
		t.Errorf("error %v", err)
	}
}
