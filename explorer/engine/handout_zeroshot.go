package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/search/remote"
)

// zeroShotSettings are the settings of a task that a worker evaluates. Its files are the questions and the model.
type zeroShotSettings struct {
	Limit int
	BOS   string
}

// A ZeroShotRequest is what [Engine.ZeroShot] evaluates.
type ZeroShotRequest struct {
	Files   []string // models
	Tasks   []quality.Task
	Options quality.EvalOptions // without Progress
	On      explorer.Machines
	Monitor explorer.Monitor
	// Done is called with each result. Its error ends the work.
	Done func(file, task int, r quality.EvalResult) error
}

// ZeroShot has files evaluated on tasks by workers.
func (e *Engine) ZeroShot(ctx context.Context, r ZeroShotRequest) error {
	device, err := e.deviceName()
	if err != nil {
		return err
	}
	files := make([]remote.File, len(r.Files))
	for i, path := range r.Files {
		if files[i], err = remote.HashFile(ctx, path); err != nil {
			return err
		}
	}
	h, err := e.hand(ctx, r.On, "", r.Monitor, func(*scratch.Folder) (errand, error) {
		return errand{
			with:   e.settings(),
			spec:   remote.Spec{Version: e.version(), Device: device, Weights: e.settings().weights(), Runner: e.runnerName(), Model: files[0]},
			offers: map[string]remote.File{r.Files[0]: files[0]},
		}, nil
	})
	if err != nil {
		return err
	}
	defer func() {
		if failed := h.Close(); failed != nil {
			r.Monitor.Note("evaluating: ending the work of others: " + failed.Error())
		}
	}()
	total, ended := len(files)*len(r.Tasks), 0
	took := func(id int, got quality.EvalResult) error {
		ended++
		r.Monitor.Progress(float64(ended), float64(total), "tasks", "")
		return r.Done(id/len(r.Tasks), id%len(r.Tasks), got)
	}
	pieces := h.NewPieces(func(_ context.Context, id int, p remote.Product) error {
		var got quality.EvalResult
		if err := json.Unmarshal(p.Value, &got); err != nil {
			return fmt.Errorf("%w of %s: %w", remote.ErrProduct, p.Worker, err)
		}
		if err := checkEvaluation(got, r.Tasks[id%len(r.Tasks)]); err != nil {
			return fmt.Errorf("%w of %s: %w", remote.ErrProduct, p.Worker, err)
		}
		return took(id, got)
	}, func(ctx context.Context, id int, _ string) error {
		got, err := e.evaluateTask(ctx, r.Files[id/len(r.Tasks)], r.Tasks[id%len(r.Tasks)], r.Options, r.Monitor.Note)
		if err != nil {
			return err
		}
		return took(id, got)
	})
	settings, err := json.Marshal(zeroShotSettings{r.Options.Limit, r.Options.BOS})
	if err != nil {
		return err
	}
	r.Monitor.Progress(0, float64(total), "tasks", "")
	for k, t := range r.Tasks {
		path := h.folder.Join("task-" + strconv.Itoa(k))
		questions, err := storeTask(ctx, t, path)
		if err != nil {
			return err
		}
		for i, f := range files {
			if err := h.offer(errand{offers: map[string]remote.File{path: questions, r.Files[i]: f}}); err != nil {
				return err
			}
			piece := remote.Piece{Kind: pieceZeroShot, Settings: settings, Files: []remote.File{questions, f}}
			if err := pieces.Add(i*len(r.Tasks)+k, fmt.Sprintf("%s on %s", r.Files[i], t.Name), piece); err != nil {
				return err
			}
		}
	}
	pieces.End()
	return pieces.Run(ctx)
}

// checkEvaluation returns an error for what cannot be the result of a task.
func checkEvaluation(r quality.EvalResult, t quality.Task) error {
	share := func(v float64) bool { return v >= 0 && v <= 1 }
	switch {
	case r.Task != t.Name || r.Questions < 1 || r.Questions > len(t.Items):
		return fmt.Errorf("%d questions of %.40q, not of the %d of %s", r.Questions, r.Task, len(t.Items), t.Name)
	case !share(r.Acc) || !share(r.AccErr):
		return fmt.Errorf("acc is %v, its error %v", r.Acc, r.AccErr)
	case (r.AccNorm == nil) != (r.AccNormErr == nil):
		return errors.New("acc_norm and its error do not come together")
	case r.AccNorm != nil && (!share(*r.AccNorm) || !share(*r.AccNormErr)):
		return fmt.Errorf("acc_norm is %v, its error %v", *r.AccNorm, *r.AccNormErr)
	case r.Truncated < 0:
		return fmt.Errorf("%d texts are cut off", r.Truncated)
	}
	return nil
}

// storeTask writes the questions of a task to a file.
func storeTask(ctx context.Context, t quality.Task, path string) (remote.File, error) {
	if err := t.Check(); err != nil {
		return remote.File{}, err
	}
	data, err := json.Marshal(t)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		return remote.File{}, err
	}
	return remote.HashFile(ctx, path)
}
