package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/conversation"
)

// DefaultConversation is how many tokens of conversation a model writes for its calibration.
const DefaultConversation = 8192

const (
	// conversationLimit bounds the time that this takes.
	conversationLimit = 10 * time.Minute
	// conversationSeed makes it the same each time.
	conversationSeed = 1
)

// conversations returns the conversations that the model wrote, or lets it write them.
func (m *model) conversations(ctx context.Context, mon explorer.Monitor) ([]string, error) {
	if m.engine.options.Conversation == 0 {
		return nil, fmt.Errorf("%w: models write no conversations here", explorer.ErrUnsupported)
	}
	if m.written.underWay() { // by another job, which reports its progress
		mon.Progress(0, 0, "tokens", "waiting: "+writing)
	}
	return m.written.get(ctx, func(ctx context.Context) ([]string, error) { return m.converse(ctx, mon) })
}

func (m *model) converse(ctx context.Context, mon explorer.Monitor) ([]string, error) {
	if err := m.info.Runs(); err != nil {
		return nil, err
	}
	dir := m.engine.options.Conversations
	hash := ""
	if dir != "" {
		mon.Progress(0, 0, "tokens", "checking the model")
		var err error
		if hash, err = m.file.SHA256(ctx); err != nil {
			return nil, err
		}
		documents, err := conversation.Load(dir, hash)
		if err == nil {
			return documents, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			mon.Note(fmt.Sprintf("the model writes its conversations again: %v", err))
		}
	}
	documents, err := m.write(ctx, mon)
	if err != nil || dir == "" {
		return documents, err
	}
	var kept []string
	err = mon.Persist(ctx, func() (err error) {
		kept, err = conversation.Save(dir, hash, documents)
		return err
	})
	if err != nil {
		mon.Note(fmt.Sprintf("the model's conversations could not be kept: %v", err))
	}
	return kept, nil
}

// writing is what a job does whose model writes conversations.
const writing = "the model writes conversations to calibrate on, once"

// write runs the model in llama.cpp.
func (m *model) write(ctx context.Context, mon explorer.Monitor) (documents []string, err error) {
	mon.Progress(0, float64(m.engine.options.Conversation), "tokens", writing)
	o := infer.Defaults(m.file.Path())
	o.Context = conversation.Context
	load, err := m.engine.runtime.Load(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, load.Close()) }()
	return conversation.Generate(ctx, load, conversation.Options{
		Tokens: m.engine.options.Conversation, Limit: conversationLimit, Seed: conversationSeed, Gate: m.written.gate(mon.Gate),
		Progress: func(done, total int) { mon.Progress(float64(done), float64(total), "tokens", writing) },
	})
}
