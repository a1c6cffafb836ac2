package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/scratch"
)

// keep stores a subnet that could not be written to its output in the model's workspace, where minutes or hours of work are not
// lost, and reports how to export it. It returns err.
func (a *app) keep(ctx context.Context, e exploration, n explorer.Subnet, err error) error {
	ctx = context.WithoutCancel(ctx)
	s := e.Snapshot()
	if s.Workspace.Path != "" {
		fmt.Fprintf(a.stderr, "lathe: the subnet is kept: `lathe subnets export %s %s -o FILE` writes it\n", n.ID, s.Model.Path)
		return err
	}
	if a.shared != nil {
		return err
	}
	id, failed := a.moveToWorkspace(ctx, e, n)
	if failed != nil {
		fmt.Fprintf(a.stderr, "lathe: the subnet could not be kept in the workspace either: %s\n", firstLine(failed))
		return err
	}
	fmt.Fprintf(a.stderr, "lathe: the subnet is kept in the workspace as %s: `lathe subnets export %s %s -o FILE` writes it\n", id, id, s.Model.Path)
	return err
}

// moveToWorkspace adds a subnet of an exploration in memory to the model's workspace, by way of a temporary file: in the scratch
// folder, or where that has no room, among the workspaces.
func (a *app) moveToWorkspace(ctx context.Context, e exploration, n explorer.Subnet) (id explorer.SubnetID, err error) {
	dir, err := a.scratch("keep")
	if err != nil {
		return "", err
	}
	id, err = a.moveThrough(ctx, e, n, dir)
	if !durable.IsFull(err) {
		return id, err
	}
	all, failed := a.workspaces()
	if failed != nil {
		return "", err
	}
	if dir, failed = scratch.New(all, "keep"); failed != nil {
		return "", err
	}
	return a.moveThrough(ctx, e, n, dir)
}

// moveThrough is moveToWorkspace by way of a file in dir, which it removes.
func (a *app) moveThrough(ctx context.Context, e exploration, n explorer.Subnet, dir *scratch.Folder) (id explorer.SubnetID, err error) {
	defer func() { err = errors.Join(err, dir.Remove()) }()
	path := dir.Join("subnet.gguf")
	if _, err := a.start(ctx, e, explorer.Export{Subnet: n.ID, Path: path, NoWait: true}); err != nil {
		return "", err
	}
	err = a.with(ctx, e.Snapshot().Model.Path, inWorkspace, func(kept exploration) error {
		job, err := a.start(ctx, kept, explorer.ImportFile{Path: path, Name: n.Name, NoWait: true})
		id = job.Result
		return err
	})
	return id, err
}
