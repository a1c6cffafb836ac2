package gguf

import (
	"fmt"
	"math"
	"slices"
)

// KV is the metadata of a file: keys in the file's order with values of the types uint8, int8, uint16, int16, uint32, int32, float32,
// bool, string, uint64, int64, float64, or a slice of one of them. The zero value is empty and ready for use.
//
// The getters return false where a key is absent or its value is not exactly representable in the type of the getter.
type KV struct {
	keys   []string
	values map[string]any
}

// Len returns the number of keys.
func (kv *KV) Len() int { return len(kv.keys) }

// Keys returns the keys in order.
func (kv *KV) Keys() []string { return slices.Clone(kv.keys) }

// Has reports whether the key is present.
func (kv *KV) Has(key string) bool {
	_, ok := kv.values[key]
	return ok
}

// Value returns the stored value of a key.
func (kv *KV) Value(key string) (any, bool) {
	v, ok := kv.values[key]
	return v, ok
}

// Set sets the value of a key, in its old position where the key is present. It stores an int as an int64 and a []int as an []int64. A type
// other than those of [KV] is an error.
func (kv *KV) Set(key string, value any) error {
	switch v := value.(type) {
	case int:
		value = int64(v)
	case []int:
		wide := make([]int64, len(v))
		for i, n := range v {
			wide[i] = int64(n)
		}
		value = wide
	}
	if _, ok := kindOf(value); !ok {
		return fmt.Errorf("gguf: key %q: a %T cannot be a value", key, value)
	}
	if _, ok := kv.values[key]; !ok {
		kv.keys = append(kv.keys, key)
	}
	if kv.values == nil {
		kv.values = make(map[string]any)
	}
	kv.values[key] = value
	return nil
}

// Delete removes a key.
func (kv *KV) Delete(key string) {
	if _, ok := kv.values[key]; !ok {
		return
	}
	delete(kv.values, key)
	kv.keys = slices.DeleteFunc(kv.keys, func(k string) bool { return k == key })
}

// Clone returns a copy that shares the values, which are never changed in place.
func (kv *KV) Clone() *KV {
	c := &KV{keys: slices.Clone(kv.keys), values: make(map[string]any, len(kv.values))}
	for k, v := range kv.values {
		c.values[k] = v
	}
	return c
}

// String returns a string.
func (kv *KV) String(key string) (string, bool) {
	s, ok := kv.values[key].(string)
	return s, ok
}

// Bool returns a bool.
func (kv *KV) Bool(key string) (value, ok bool) {
	value, ok = kv.values[key].(bool)
	return value, ok
}

// Uint returns a non-negative integer, stored in any integer type.
func (kv *KV) Uint(key string) (uint64, bool) {
	return asUint(kv.values[key])
}

// Int returns an integer, stored in any integer type.
func (kv *KV) Int(key string) (int64, bool) {
	return asInt(kv.values[key])
}

// Float returns a float32 or float64.
func (kv *KV) Float(key string) (float64, bool) {
	switch v := kv.values[key].(type) {
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// Strings returns a list of strings. The caller must not change it.
func (kv *KV) Strings(key string) ([]string, bool) {
	s, ok := kv.values[key].([]string)
	return s, ok
}

// Ints returns a list of integers, stored in any integer type.
func (kv *KV) Ints(key string) ([]int64, bool) {
	switch v := kv.values[key].(type) {
	case []uint8:
		return widen(v), true
	case []int8:
		return widen(v), true
	case []uint16:
		return widen(v), true
	case []int16:
		return widen(v), true
	case []uint32:
		return widen(v), true
	case []int32:
		return widen(v), true
	case []int64:
		return slices.Clone(v), true
	case []uint64:
		for _, n := range v {
			if n > math.MaxInt64 {
				return nil, false
			}
		}
		return widen(v), true
	}
	return nil, false
}

// Floats returns a list of float32. The caller must not change it.
func (kv *KV) Floats(key string) ([]float32, bool) {
	f, ok := kv.values[key].([]float32)
	return f, ok
}

func widen[T uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64](v []T) []int64 {
	wide := make([]int64, len(v))
	for i, n := range v {
		wide[i] = int64(n)
	}
	return wide
}

func asInt(value any) (int64, bool) {
	switch v := value.(type) {
	case uint8:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64
	}
	return 0, false
}

func asUint(value any) (uint64, bool) {
	if v, ok := value.(uint64); ok {
		return v, true
	}
	n, ok := asInt(value)
	return uint64(n), ok && n >= 0
}

// kind is the number of the type of a value in a file.
type kind uint32

const (
	kindUint8 kind = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
)

// kindOf returns the kind of a value, and whether it can be stored.
func kindOf(value any) (kind, bool) {
	switch value.(type) {
	case uint8:
		return kindUint8, true
	case int8:
		return kindInt8, true
	case uint16:
		return kindUint16, true
	case int16:
		return kindInt16, true
	case uint32:
		return kindUint32, true
	case int32:
		return kindInt32, true
	case float32:
		return kindFloat32, true
	case bool:
		return kindBool, true
	case string:
		return kindString, true
	case uint64:
		return kindUint64, true
	case int64:
		return kindInt64, true
	case float64:
		return kindFloat64, true
	case []uint8, []int8, []uint16, []int16, []uint32, []int32, []float32, []bool, []string, []uint64, []int64, []float64:
		return kindArray, true
	}
	return 0, false
}
