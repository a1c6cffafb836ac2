package explorer

import (
	"context"
	"fmt"
)

// Do carries a command out for an actor and returns as soon as it took effect. A job that it starts runs on by itself and is
// in the snapshots from then on. ctx bounds only Do, not the job.
func (e *Exploration) Do(ctx context.Context, a Actor, c Command) (Receipt, error) {
	if err := ctx.Err(); err != nil {
		return Receipt{}, err
	}
	if c == nil {
		return Receipt{}, fmt.Errorf("%w: no command", ErrInvalid)
	}
	need := c.needs()
	if a.Role < need.role {
		return Receipt{}, fmt.Errorf("%w: %s has the role %s, this needs the role %s", ErrForbidden, a.Name, a.Role, need.role)
	}
	e.mu.Lock()
	closing := e.closing
	e.mu.Unlock()
	if closing {
		return Receipt{}, ErrClosed
	}
	s := e.Snapshot()
	if need.runtime {
		if err := s.Model.Runs(); err != nil {
			return Receipt{}, err
		}
	}
	if need.workspace && s.Workspace.ReadOnly {
		return Receipt{}, fmt.Errorf("%w (%s)", ErrReadOnly, s.Workspace.Holder)
	}
	a.Name = CleanName(a.Name)
	return c.do(ctx, e, a)
}

// String returns the name of the role.
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
