package explorer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer"
)

// layerLog records the layers on GPUs that models are loaded with.
type layerLog struct {
	*explorertest.Backend
	mu     sync.Mutex
	layers []int
}

func (b *layerLog) Open(ctx context.Context, path string) (explorer.Model, error) {
	m, err := b.Backend.Open(ctx, path)
	return logged{m, b}, err
}

type logged struct {
	explorer.Model
	b *layerLog
}

func (m logged) Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	m.b.mu.Lock()
	m.b.layers = append(m.b.layers, o.GPULayers)
	m.b.mu.Unlock()
	return m.Model.Load(ctx, o, progress)
}

// TestChatGPU: a chat's number of layers on the GPU is that of its next reply, and a model that is loaded otherwise is not used.
func TestChatGPU(t *testing.T) {
	b := &layerLog{Backend: explorertest.New()}
	e, err := explorer.Open(t.Context(), explorer.Options{Model: "model.gguf", Backend: b})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	opened, err := e.Do(t.Context(), explorertest.Owner, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}})
	if err != nil {
		t.Fatal(err)
	}
	chat := opened.Chat
	say := func() {
		command(t, e, explorer.Say{Chat: chat, Text: "hello"})
		explorertest.Quiet(t, e)
	}
	say()
	for _, gpu := range []string{"off", "7", "7", "auto"} {
		command(t, e, explorer.ConfigureChat{Chat: chat, GPU: &gpu})
		if c, _ := e.Snapshot().Chat(chat); c.GPU != gpu {
			t.Errorf("the chat has %q, want %q", c.GPU, gpu)
		}
		say()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if want := []int{infer.AllLayers, 0, 7}; !slices.Equal(b.layers, want) {
		t.Errorf("loaded with %v layers, want %v: models that are loaded are used again", b.layers, want)
	}
	bad := "some"
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.ConfigureChat{Chat: chat, GPU: &bad}); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("some layers: %v", err)
	}
}
