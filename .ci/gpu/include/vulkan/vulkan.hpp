// Headers of Vulkan before 1.3.272, such as Debian 12's, lack VK_EXT_layer_settings, which ggml uses for its validation layers
// (llama.cpp pull request 16532 is about such headers). This file is found before the system's, and adds what is missing.
#pragma once
#include_next <vulkan/vulkan.hpp>
#if !defined(VK_EXT_layer_settings)
#include <cstdint>
#include <vector>
namespace VULKAN_HPP_NAMESPACE {
enum class LayerSettingTypeEXT { eBool32 = 0 };
struct LayerSettingEXT {
    const char * layer;
    const char * name;
    LayerSettingTypeEXT type;
    uint32_t count;
    const void * values;
};
struct LayerSettingsCreateInfoEXT {
    StructureType sType = StructureType(1000496000);
    const void * pNext = nullptr;
    uint32_t count;
    const LayerSettingEXT * settings;
    LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> & all) : count(uint32_t(all.size())), settings(all.data()) {}
};
}
#endif
