# The sample steps: shared objects, installed where the sample configuration looks for steps.
samplestepsdir = $(pkglibdir)/steps
samplesteps_PROGRAMS = \
	steps/batch-processor.so \
	steps/create-order.so \
	steps/notification.so \
	steps/periodic-job.so \
	steps/process-food-order.so \
	steps/process-greeting.so \
	steps/process-order.so

SAMPLE_CPPFLAGS = -I$(top_srcdir)/src/step $(CJSON_CFLAGS)

steps_batch_processor_so_SOURCES = steps/batch-processor.c
steps_batch_processor_so_CPPFLAGS = $(SAMPLE_CPPFLAGS)
steps_batch_processor_so_CFLAGS = $(STEP_CFLAGS)
steps_batch_processor_so_LDFLAGS = $(STEP_LINK)
steps_batch_processor_so_LDADD = $(CJSON_LIBS)

steps_create_order_so_SOURCES = steps/create-order.c steps/pet_store.c steps/pet_store.h
steps_create_order_so_CPPFLAGS = $(SAMPLE_CPPFLAGS)
steps_create_order_so_CFLAGS = $(STEP_CFLAGS)
steps_create_order_so_LDFLAGS = $(STEP_LINK)
steps_create_order_so_LDADD = $(CJSON_LIBS)

steps_notification_so_SOURCES = steps/notification.c
steps_notification_so_CPPFLAGS = $(SAMPLE_CPPFLAGS)
steps_notification_so_CFLAGS = $(STEP_CFLAGS)
steps_notification_so_LDFLAGS = $(STEP_LINK)
steps_notification_so_LDADD = $(CJSON_LIBS)

steps_periodic_job_so_SOURCES = steps/periodic-job.c
steps_periodic_job_so_CPPFLAGS = $(SAMPLE_CPPFLAGS)
steps_periodic_job_so_CFLAGS = $(STEP_CFLAGS)
steps_periodic_job_so_LDFLAGS = $(STEP_LINK)
steps_periodic_job_so_LDADD = $(CJSON_LIBS)

steps_process_food_order_so_SOURCES = steps/process-food-order.c steps/pet_store.c steps/pet_store.h
steps_process_food_order_so_CPPFLAGS = $(SAMPLE_CPPFLAGS)
steps_process_food_order_so_CFLAGS = $(STEP_CFLAGS)
steps_process_food_order_so_LDFLAGS = $(STEP_LINK)
steps_process_food_order_so_LDADD = $(CJSON_LIBS)

steps_process_greeting_so_SOURCES = steps/process-greeting.c
steps_process_greeting_so_CPPFLAGS = $(SAMPLE_CPPFLAGS)
steps_process_greeting_so_CFLAGS = $(STEP_CFLAGS)
steps_process_greeting_so_LDFLAGS = $(STEP_LINK)
steps_process_greeting_so_LDADD = $(CJSON_LIBS)

steps_process_order_so_SOURCES = steps/process-order.c steps/pet_store.c steps/pet_store.h
steps_process_order_so_CPPFLAGS = $(SAMPLE_CPPFLAGS)
steps_process_order_so_CFLAGS = $(STEP_CFLAGS)
steps_process_order_so_LDFLAGS = $(STEP_LINK)
steps_process_order_so_LDADD = $(CJSON_LIBS)
