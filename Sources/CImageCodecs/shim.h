#ifndef CIMAGECODECS_SHIM_H
#define CIMAGECODECS_SHIM_H
#include <stdio.h>
#include <turbojpeg.h>
#include <png.h>
#include <webp/decode.h>
#include <gif_lib.h>
#endif
