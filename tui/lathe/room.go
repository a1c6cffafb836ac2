package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lathe-llm/lathe/infer/durable"
)

// retryAfter is how soon a write to a full disk is tried again.
const retryAfter = 2 * time.Second

// untilRoom calls write, and again while the disk is full, for work that is not a job.
func (a *app) untilRoom(ctx context.Context, title string, write func() error) error {
	err := write()
	if !durable.IsFull(err) {
		return err
	}
	fmt.Fprintf(a.stderr, "lathe: %s is paused until there is room: %s\n", title, firstLine(err))
	for durable.IsFull(err) {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(retryAfter):
		}
		err = write()
	}
	if err == nil {
		fmt.Fprintf(a.stderr, "lathe: %s continues: there is room again\n", title)
	}
	return err
}
