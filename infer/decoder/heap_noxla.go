//go:build !(cgo && ((linux && (amd64 || arm64)) || (darwin && arm64)) && !noxla)

package decoder

type heap struct{}

func (*heap) grown() {}
