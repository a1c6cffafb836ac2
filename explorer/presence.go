package explorer

import (
	"context"
	"slices"
)

func (c Attach) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	where := CleanName(c.Where)
	e.update(SectionPresence, func(s *Snapshot) {
		v := Viewer{Name: a.Name, Role: a.Role, Since: e.now(), Where: where}
		if i := slices.IndexFunc(s.Presence, func(v Viewer) bool { return v.Name == a.Name }); i >= 0 {
			v.Since = s.Presence[i].Since
			s.Presence = slices.Clone(s.Presence)
			s.Presence[i] = v
			return
		}
		s.Presence = append(slices.Clone(s.Presence), v)
	})
	return Receipt{}, nil
}

func (Detach) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	e.update(SectionPresence, func(s *Snapshot) {
		s.Presence = slices.DeleteFunc(slices.Clone(s.Presence), func(v Viewer) bool { return v.Name == a.Name })
	})
	return Receipt{}, nil
}
