src_libstepd_a_SOURCES += src/step/attempt.h src/step/manifest.h src/step/registry.h src/step/runner.h 
