package explorer

import (
	"context"
	"fmt"
)

// Do carries a command out for an actor and returns as soon as it took effect: a job that it starts goes on by itself and
// is in the snapshots from then on. ctx bounds only Do itself: not the job.
func (e *Exploration) Do(ctx context.Context, a Actor, c Command) (Receipt, error) {
	if err := ctx.Err(); err != nil {
		return Receipt{}, err
	}
	if need := roleFor(c); a.Role < need {
		return Receipt{}, fmt.Errorf("%w: %s has the role %s, this needs the role %s", ErrForbidden, a.Name, a.Role, need)
	}
	e.mu.Lock()
	closing := e.closing
	e.mu.Unlock()
	if closing {
		return Receipt{}, ErrClosed
	}
	if err := e.runs(c); err != nil {
		return Receipt{}, err
	}
	a.Name = CleanName(a.Name)
	switch c := c.(type) {
	case Edit:
		return e.edit(ctx, a, c)
	case Undo:
		return e.draft(ctx, a, c.Version, func(*Snapshot) (record, error) { return record{Draft: &draftRecord{Op: opUndo}}, nil })
	case Redo:
		return e.draft(ctx, a, c.Version, func(*Snapshot) (record, error) { return record{Draft: &draftRecord{Op: opRedo}}, nil })
	case Checkout:
		return e.checkout(ctx, a, c)
	case SaveDraft, RenameSubnet, AnnotateSubnet, DuplicateSubnet, DeleteSubnet, RestoreSubnet, EmptyTrash, AddSubnet:
		return e.library(ctx, a, c)
	case GatherStatistics, Cut, Refit, Measure, StartSearch, Export, ExportRecipe, BuildRecipe, StartBench, ImportFile:
		return e.launch(ctx, a, c)
	case PauseJob:
		return e.pause(ctx, a, c.Job, true)
	case ResumeJob:
		return e.pause(ctx, a, c.Job, false)
	case StopJob:
		return Receipt{Job: c.Job}, e.jobs.Stop(string(c.Job))
	case Retarget, Inject, Adopt:
		return e.steer(ctx, a, c)
	case OpenChat, Say, StopReply, Regenerate, EditPrompt, ConfigureChat, SetColumns, Vote, DeleteChat:
		return e.talk(ctx, a, c)
	case Dismiss:
		e.dismiss(c.Message)
		return Receipt{}, nil
	case Attach:
		e.attach(a, CleanName(c.Where))
		return Receipt{}, nil
	case Detach:
		e.detach(a)
		return Receipt{}, nil
	}
	return Receipt{}, fmt.Errorf("%w: unknown command %T", ErrInvalid, c)
}

// runs refuses commands that need the engine where it does not run the model.
func (e *Exploration) runs(c Command) error {
	switch c := c.(type) {
	case StartBench, OpenChat, Say, Regenerate, EditPrompt:
	case Measure:
		if c.Engine != EngineLlama {
			return nil
		}
	default:
		return nil
	}
	return e.Snapshot().Model.Runs()
}

// roleFor is the least role that may give a command.
func roleFor(c Command) Role {
	switch c.(type) {
	case Dismiss, Attach, Detach:
		return RoleViewer
	case EmptyTrash:
		return RoleOwner
	}
	return RoleEditor
}

// String is the name of the role.
func (r Role) String() string {
	switch r {
	case RoleViewer:
		return "viewer"
	case RoleEditor:
		return "editor"
	case RoleOwner:
		return "owner"
	}
	return fmt.Sprintf("Role(%d)", int(r))
}
