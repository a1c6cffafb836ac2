package gguf

import (
	"fmt"
	"math"
	"reflect"
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
	if !canStore(value) {
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
	v := reflect.ValueOf(kv.values[key])
	if v.CanUint() {
		return v.Uint(), true
	}
	n, ok := asInt(v)
	return uint64(n), ok && n >= 0
}

// Int returns an integer, stored in any integer type.
func (kv *KV) Int(key string) (int64, bool) { return asInt(reflect.ValueOf(kv.values[key])) }

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
	list := reflect.ValueOf(kv.values[key])
	if list.Kind() != reflect.Slice {
		return nil, false
	}
	if _, ok := asInt(reflect.Zero(list.Type().Elem())); !ok {
		return nil, false
	}
	wide := make([]int64, list.Len())
	for i := range wide {
		n, ok := asInt(list.Index(i))
		if !ok {
			return nil, false
		}
		wide[i] = n
	}
	return wide, true
}

// Floats returns a list of float32. The caller must not change it.
func (kv *KV) Floats(key string) ([]float32, bool) {
	f, ok := kv.values[key].([]float32)
	return f, ok
}

// asInt returns the value of an integer of any type, and false where v is another value or too large.
func asInt(v reflect.Value) (int64, bool) {
	if v.CanUint() {
		return int64(v.Uint()), v.Uint() <= math.MaxInt64
	}
	if v.CanInt() {
		return v.Int(), true
	}
	return 0, false
}

// kind is the number of the type of a value in a file.
type kind uint32

// The kinds that are read and written in ways of their own. The others are numbers.
const (
	kindBool   kind = 7
	kindString kind = 8
	kindArray  kind = 9
)

// kinds is the table of the types of values, by kind. It is never changed.
var kinds = [...]reflect.Type{
	reflect.TypeFor[uint8](), reflect.TypeFor[int8](), reflect.TypeFor[uint16](), reflect.TypeFor[int16](), reflect.TypeFor[uint32](),
	reflect.TypeFor[int32](), reflect.TypeFor[float32](), kindBool: reflect.TypeFor[bool](), kindString: reflect.TypeFor[string](), kindArray: nil,
	reflect.TypeFor[uint64](), reflect.TypeFor[int64](), reflect.TypeFor[float64](),
}

// kindOf returns the kind of a type other than a list, and whether it can be stored.
func kindOf(t reflect.Type) (kind, bool) {
	i := slices.Index(kinds[:], t)
	return kind(i), t != nil && i >= 0
}

// canStore reports whether a value, or a list, is of a type that can be stored.
func canStore(value any) bool {
	t := reflect.TypeOf(value)
	if t != nil && t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	_, ok := kindOf(t)
	return ok
}
