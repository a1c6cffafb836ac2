package decoder

import "slices"

// WithWidthBucket pads the widths of cut MLPs with zeros to a multiple of n channels.
func WithWidthBucket(n int) Option { return func(o *options) { o.bucket = n } }

// Plugin returns the path of the XLA plugin, "" for the Go backend.
func (d *Device) Plugin() string { return d.plugin }

// DeviceBytes returns the size of the weights that the subnet has besides the dense model's.
func (s *Subnet) DeviceBytes() int64 {
	var n int64
	for i := range s.attention {
		n += s.attention[i].Bytes() + s.mlp[i].Bytes()
	}
	return n
}

// Shares reports whether s and o are made of the same blocks.
func (s *Subnet) Shares(o *Subnet) bool {
	return slices.Equal(s.attention, o.attention) && slices.Equal(s.mlp, o.mlp)
}
